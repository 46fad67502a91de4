// A Vault that keeps all in memory: its core, its HTTP API and its PKI engine, initialised and unsealed.
// Prints its address and its root token, and serves until it is ended. Built by real_vault.py.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/pki"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// The one engine there is. Vault's own list has clients of every cloud in it.
type registry struct{}

func (registry) Contains(name string, kind consts.PluginType) bool {
	return name == "pki" && kind == consts.PluginTypeSecrets
}

func (r registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	return func() (interface{}, error) { return logical.Factory(pki.Factory), nil }, r.Contains(name, kind)
}

func (registry) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeSecrets {
		return []string{"pki"}
	}
	return nil
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	logger := log.New(&log.LoggerOptions{Level: log.Warn})
	storage, err := inmem.NewInmem(nil, logger)
	must(err)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        storage,
		StorageType:     "inmem",
		Logger:          logger,
		DisableMlock:    true,
		RedirectAddr:    "http://" + socket.Addr().String(),
		BuiltinRegistry: registry{},
		LogicalBackends: map[string]logical.Factory{"pki": pki.Factory, "kv": vault.PassthroughBackendFactory},
	})
	must(err)
	shares := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: shares, RecoveryConfig: shares})
	must(err)
	for _, key := range made.SecretShares {
		_, err := core.Unseal(key)
		must(err)
	}
	fmt.Printf("http://%s %s\n", socket.Addr(), made.RootToken)
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core, ListenerConfig: &configutil.Listener{Type: "tcp", Address: socket.Addr().String()},
	})
	must(http.Serve(socket, handler))
}
