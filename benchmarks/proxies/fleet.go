package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"fairlead.dev/benchmarks/wire"
)

// nodeTemplate makes the node of proxy i: "{i}" in the id and in the metadata stands for its number.
type nodeTemplate struct {
	id, metadata string
}

func (t *nodeTemplate) fill(i int) *core.Node {
	node := &core.Node{
		Id: strings.ReplaceAll(t.id, "{i}", strconv.Itoa(i)), Cluster: "benchmark", UserAgentName: "envoy",
		ClientFeatures: []string{"envoy.lb.does_not_support_overprovisioning"},
	}
	if t.metadata == "" {
		return node
	}
	text := fmt.Sprintf(`{"metadata":%s}`, strings.ReplaceAll(t.metadata, "{i}", strconv.Itoa(i)))
	var extra core.Node
	if err := protojson.Unmarshal([]byte(text), &extra); err == nil { // checked when the fleet is made
		node.Metadata = extra.GetMetadata()
	}
	return node
}

// names keeps one copy of each resource name and version for all proxies.
type names struct {
	mu    sync.Mutex
	known map[string]string
}

func (n *names) intern(name []byte) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.known[string(name)]; ok {
		return known
	}
	copied := string(name)
	n.known[copied] = copied
	return copied
}

// listenerFacts is what was read from one listener at one version, once for all proxies.
type listenerFacts struct {
	routes []string
	scoped bool
}

// fleet is all simulated proxies, and what they share.
type fleet struct {
	tracker  *tracker
	counters counters
	names    names

	mu        sync.Mutex
	listeners map[string]listenerFacts // by name and version
	proxies   []*proxy
	stop      context.CancelFunc
	running   sync.WaitGroup
	synced    int
	opened    time.Time
	lastSync  time.Time
	allSynced chan struct{}
}

func newFleet(t *tracker) *fleet {
	return &fleet{tracker: t, names: names{known: map[string]string{}}, listeners: map[string]listenerFacts{}}
}

// connect makes count new proxies and opens all their streams at once.
func (f *fleet) connect(address string, count int, node nodeTemplate) error {
	if node.metadata != "" && !json.Valid([]byte(strings.ReplaceAll(node.metadata, "{i}", "0"))) {
		return errors.New("metadata: not JSON")
	}
	f.disconnect()
	f.proxies = nil
	for i := range count {
		f.proxies = append(f.proxies, &proxy{fleet: f, index: i, node: &node})
	}
	return f.reconnect(address)
}

// reconnect opens the streams of the same proxies again; each says which versions it holds.
func (f *fleet) reconnect(address string) error {
	if len(f.proxies) == 0 {
		return errors.New("there are no proxies: connect some first")
	}
	f.disconnect()
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	f.stop, f.synced, f.opened, f.allSynced = stop, 0, time.Now(), make(chan struct{})
	for _, p := range f.proxies {
		p.synced.Store(false)
		for kind := range p.subscriptions {
			p.subscriptions[kind].answered = false
		}
		f.tracker.join(p.index)
		f.running.Add(1)
		go func() {
			defer f.running.Done()
			p.run(ctx, address)
		}()
	}
	return nil
}

// disconnect closes every stream; what the proxies hold stays.
func (f *fleet) disconnect() {
	if f.stop == nil {
		return
	}
	f.stop()
	f.running.Wait()
	for _, p := range f.proxies {
		f.tracker.leave(p.index)
	}
	f.stop = nil
}

func (f *fleet) proxySynced(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced++
	f.lastSync = at
	if f.synced == len(f.proxies) {
		close(f.allSynced)
	}
}

// waitSynced waits until every proxy has an answer to everything it asked for.
func (f *fleet) waitSynced(timeout time.Duration) (map[string]any, error) {
	if f.stop == nil {
		return nil, errors.New("no proxy is connected")
	}
	select {
	case <-f.allSynced:
	case <-time.After(timeout):
		f.mu.Lock()
		defer f.mu.Unlock()
		return nil, fmt.Errorf("after %s only %d of %d proxies have everything", timeout, f.synced, len(f.proxies))
	}
	return map[string]any{"proxies": len(f.proxies), "seconds": f.lastSync.Sub(f.opened).Seconds()}, nil
}

// refersTo returns the names in other types that a resource leads to.
func (f *fleet) refersTo(kind int, resource wire.Resource) []string {
	switch kind {
	case cds:
		if name := wire.EDSName(resource.Body); name != nil {
			return []string{f.names.intern(name)}
		}
	case srds:
		if name := wire.ScopeRoute(resource.Body); name != nil {
			return []string{f.names.intern(name)}
		}
	case lds:
		key := string(resource.Name) + "@" + string(resource.Version)
		f.mu.Lock()
		defer f.mu.Unlock()
		facts, known := f.listeners[key]
		if !known {
			facts.routes, facts.scoped = routesOf(resource.Body)
			f.listeners[key] = facts
		}
		return facts.routes
	}
	return nil
}

// scoped tells whether one of these listeners (name to version) uses scoped routes.
func (f *fleet) scoped(held map[string]string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, version := range held {
		if f.listeners[name+"@"+version].scoped {
			return true
		}
	}
	return false
}
