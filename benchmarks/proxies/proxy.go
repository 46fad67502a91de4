package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"fairlead.dev/benchmarks/wire"
)

// subscription is what a proxy holds of one type. Names asked for one by one are keys of versions from the start,
// with an empty version until they are answered.
type subscription struct {
	started, answered bool
	versions          map[string]string
	missing           int
}

// proxy is one simulated Envoy: delta ADS on a connection of its own, in Envoy's order (clusters, then their
// endpoints, then listeners, then their routes), acknowledging whatever comes.
type proxy struct {
	fleet *fleet
	index int
	node  *nodeTemplate

	subscriptions [kinds]subscription
	synced        atomic.Bool
}

// run keeps a stream to the address until the context ends; a broken stream is opened again after a short, random
// wait, as Envoy does.
func (p *proxy) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		if p.stream(ctx, address); ctx.Err() != nil {
			return
		}
		p.fleet.counters.streamErrors.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(50+rand.IntN(450)) * time.Millisecond):
		}
	}
}

func (p *proxy) stream(ctx context.Context, address string) error {
	opened, err := openStream(ctx, address)
	if err != nil {
		return err
	}
	defer opened.connection.Close()
	defer context.AfterFunc(ctx, func() { _ = opened.connection.Close() })()
	if err := p.open(opened); err != nil {
		return err
	}
	for {
		message, err := opened.receive()
		if err != nil {
			return err
		}
		if err := p.receive(opened, message, time.Now()); err != nil {
			return err
		}
	}
}

// open sends the first requests of a stream: clusters only on a new proxy, everything it holds on a returning one.
func (p *proxy) open(to *stream) error {
	node := p.node.fill(p.index)
	for kind := range p.subscriptions {
		held := &p.subscriptions[kind]
		if !held.started && kind != cds {
			continue
		}
		held.started = true
		request := &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: typeURLs[kind]}
		for name, version := range held.versions {
			if kind == eds || kind == rds {
				request.ResourceNamesSubscribe = append(request.ResourceNamesSubscribe, name)
			}
			if version != "" {
				if request.InitialResourceVersions == nil {
					request.InitialResourceVersions = map[string]string{}
				}
				request.InitialResourceVersions[name] = version
			}
		}
		if err := send(to, request); err != nil {
			return err
		}
		node = nil // only the first request of a stream says who asks
	}
	return nil
}

func send(to *stream, request *discovery.DeltaDiscoveryRequest) error {
	message, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	return to.send(message)
}

func (p *proxy) receive(to *stream, message []byte, at time.Time) error {
	response, err := wire.ParseResponse(message, true)
	if err != nil {
		return err
	}
	kind := kindOf(response.TypeURL)
	if kind < 0 || !p.subscriptions[kind].started {
		p.fleet.counters.unexpected.Add(1)
		return nil
	}
	t := &p.fleet.counters.kinds[kind]
	t.responses.Add(1)
	t.resources.Add(int64(len(response.Resources)))
	t.removed.Add(int64(len(response.Removed)))
	t.bytes.Add(int64(len(message)))
	if kind == eds && p.fleet.tracker.expecting() {
		for _, resource := range response.Resources {
			p.fleet.tracker.saw(p.index, resource.Name, wire.MaxPort(resource.Body), at)
		}
	}
	wanted := p.apply(kind, &response)
	ack := protowire.AppendTag(make([]byte, 0, 128), 2, protowire.BytesType)
	ack = protowire.AppendBytes(ack, response.TypeURL)
	ack = protowire.AppendTag(ack, 6, protowire.BytesType)
	ack = protowire.AppendBytes(ack, response.Nonce)
	if err := to.send(ack); err != nil {
		return err
	}
	if err := p.ask(to, kind, wanted); err != nil {
		return err
	}
	p.checkSynced(at)
	return nil
}

// apply takes a response in and returns the names that it makes the proxy ask for: assignments of new clusters,
// route configurations of new listeners and scopes.
func (p *proxy) apply(kind int, response *wire.Response) []string {
	held := &p.subscriptions[kind]
	if held.versions == nil {
		held.versions = make(map[string]string, len(response.Resources))
	}
	held.answered = true
	byName := kind == eds || kind == rds
	var wanted []string
	for _, resource := range response.Resources {
		before, known := held.versions[string(resource.Name)]
		if byName && known && before == "" {
			held.missing--
		}
		if byName && !known {
			p.fleet.counters.unexpected.Add(1)
			continue
		}
		held.versions[p.fleet.names.intern(resource.Name)] = p.fleet.names.intern(resource.Version)
		wanted = append(wanted, p.fleet.refersTo(kind, resource)...)
	}
	for _, name := range response.Removed {
		if before, known := held.versions[string(name)]; known && byName && before == "" {
			held.missing--
		}
		delete(held.versions, string(name))
	}
	return wanted
}

// ask opens the subscriptions that a response led to.
func (p *proxy) ask(to *stream, kind int, wanted []string) error {
	target := rds
	if kind == cds {
		target = eds
	}
	if names := p.unknown(target, wanted); len(names) > 0 {
		request := &discovery.DeltaDiscoveryRequest{TypeUrl: typeURLs[target], ResourceNamesSubscribe: names}
		if err := send(to, request); err != nil {
			return err
		}
	}
	if kind == lds && p.fleet.scoped(p.subscriptions[lds].versions) {
		if err := p.start(to, srds); err != nil {
			return err
		}
	}
	if p.subscriptions[cds].answered && p.subscriptions[eds].missing == 0 {
		return p.start(to, lds) // Envoy asks for listeners once its clusters are warm
	}
	return nil
}

// unknown adds the names that are not subscribed yet to a subscription, and returns them.
func (p *proxy) unknown(kind int, wanted []string) []string {
	held := &p.subscriptions[kind]
	var fresh []string
	for _, name := range wanted {
		if _, known := held.versions[name]; known {
			continue
		}
		if held.versions == nil {
			held.versions = make(map[string]string, len(wanted))
		}
		held.started = true
		held.versions[name] = ""
		held.missing++
		fresh = append(fresh, name)
	}
	return fresh
}

func (p *proxy) start(to *stream, kind int) error {
	if p.subscriptions[kind].started {
		return nil
	}
	p.subscriptions[kind].started = true
	return send(to, &discovery.DeltaDiscoveryRequest{TypeUrl: typeURLs[kind]})
}

func (p *proxy) checkSynced(at time.Time) {
	if p.synced.Load() || !p.subscriptions[lds].answered {
		return
	}
	for kind := range p.subscriptions {
		held := &p.subscriptions[kind]
		if held.missing > 0 || (kind == srds && held.started && !held.answered) {
			return
		}
	}
	p.synced.Store(true)
	p.fleet.proxySynced(at)
}

// routesOf tells which route configurations a listener names, and whether it uses scoped routes.
func routesOf(body []byte) (names []string, scoped bool) {
	var l listener.Listener
	if proto.Unmarshal(body, &l) != nil {
		return nil, false
	}
	chains := l.GetFilterChains()
	if l.GetDefaultFilterChain() != nil {
		chains = append(chains, l.GetDefaultFilterChain())
	}
	for _, chain := range chains {
		for _, filter := range chain.GetFilters() {
			var manager hcm.HttpConnectionManager
			if filter.GetTypedConfig() == nil || filter.GetTypedConfig().UnmarshalTo(&manager) != nil {
				continue
			}
			if name := manager.GetRds().GetRouteConfigName(); name != "" {
				names = append(names, name)
			}
			scoped = scoped || manager.GetScopedRoutes().GetScopedRds() != nil
		}
	}
	return names, scoped
}
