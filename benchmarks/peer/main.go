// The peer: a small control plane on go-control-plane, the yardstick of every ratio that `make bench` prints.
//
// It is built as its authors advise: one LinearCache per type behind a MuxCache, delta and state-of-the-world ADS,
// contents loaded at start and the same for every proxy. Changes come over a small HTTP API, so that the same driver
// loads it and Fairlead. It must not be tuned in either direction.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

type peer struct {
	services, endpoints int

	assignments, routes *cache.LinearCache
	mux                 cache.MuxCache

	mu                 sync.Mutex // guards routeConfiguration
	routeConfiguration *route.RouteConfiguration
}

func newPeer(services, endpoints, hosts int, port uint32) (*peer, error) {
	clusters := map[string]types.Resource{}
	assignments := map[string]types.Resource{}
	for i := range services {
		clusters[serviceName(i)] = makeCluster(i)
		assignments[serviceName(i)] = makeEndpoints(i, endpoints, 8080)
	}
	configuration := &route.RouteConfiguration{Name: routeConfigurationName}
	for i := range hosts {
		configuration.VirtualHosts = append(configuration.VirtualHosts, makeVirtualHost(i, services, ""))
	}
	gateway, err := makeListener(port)
	if err != nil {
		return nil, err
	}
	p := &peer{
		services: services, endpoints: endpoints, routeConfiguration: configuration,
		assignments: linear(resource.EndpointType, assignments),
		routes:      linear(resource.RouteType, map[string]types.Resource{configuration.GetName(): configuration}),
	}
	p.mux = cache.MuxCache{
		Classify:      func(request *cache.Request) string { return request.GetTypeUrl() },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return request.GetTypeUrl() },
		Caches: map[string]cache.Cache{
			resource.ClusterType:  linear(resource.ClusterType, clusters),
			resource.EndpointType: p.assignments,
			resource.ListenerType: linear(resource.ListenerType, map[string]types.Resource{gateway.GetName(): gateway}),
			resource.RouteType:    p.routes,
		},
	}
	return p, nil
}

func linear(typeURL string, resources map[string]types.Resource) *cache.LinearCache {
	return cache.NewLinearCache(typeURL, cache.WithInitialResources(resources))
}

// changeEndpoint answers POST /endpoint?service=I&port=P: the first endpoint of service I now listens on P.
func (p *peer) changeEndpoint(query map[string][]string) error {
	service, err := number(query, "service", p.services)
	if err != nil {
		return err
	}
	port, err := number(query, "port", 65536)
	if err != nil {
		return err
	}
	return p.assignments.UpdateResource(serviceName(service), makeEndpoints(service, p.endpoints, uint32(port)))
}

// changeRoute answers POST /route?host=I&redirect=HOST: host I now answers 302 to HOST.
func (p *peer) changeRoute(query map[string][]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	host, err := number(query, "host", len(p.routeConfiguration.GetVirtualHosts()))
	if err != nil {
		return err
	}
	if len(query["redirect"]) != 1 {
		return errors.New("redirect: one host name is needed")
	}
	// What the cache holds may be marshalled at any time, so a change is a new message that shares the other hosts.
	configuration := &route.RouteConfiguration{
		Name:         p.routeConfiguration.GetName(),
		VirtualHosts: append([]*route.VirtualHost(nil), p.routeConfiguration.GetVirtualHosts()...),
	}
	configuration.VirtualHosts[host] = makeVirtualHost(host, p.services, query["redirect"][0])
	p.routeConfiguration = configuration
	return p.routes.UpdateResource(configuration.GetName(), configuration)
}

func number(query map[string][]string, name string, below int) (int, error) {
	values := query[name]
	if len(values) != 1 {
		return 0, fmt.Errorf("%s: one number is needed", name)
	}
	value, err := strconv.Atoi(values[0])
	if err != nil || value < 0 || value >= below {
		return 0, fmt.Errorf("%s: %q is not a number from 0 to %d", name, values[0], below-1)
	}
	return value, nil
}

func control(p *peer) http.Handler {
	handlers := http.NewServeMux()
	for path, change := range map[string]func(map[string][]string) error{
		"POST /endpoint": p.changeEndpoint,
		"POST /route":    p.changeRoute,
	} {
		handlers.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := change(r.URL.Query()); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	return handlers
}

func main() {
	services := flag.Int("services", 1000, "services, each one cluster")
	endpoints := flag.Int("endpoints", 5, "endpoints of each service")
	hosts := flag.Int("hosts", 1000, "virtual hosts, each with one route")
	port := flag.Uint("gateway-port", 10000, "port of the one listener")
	xds := flag.String("xds", "127.0.0.1:0", "where to serve ADS")
	api := flag.String("api", "127.0.0.1:0", "where to take changes")
	flag.Parse()
	if err := run(*services, *endpoints, *hosts, uint32(*port), *xds, *api); err != nil {
		log.Fatal(err)
	}
}

func run(services, endpoints, hosts int, port uint32, xdsAddress, apiAddress string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p, err := newPeer(services, endpoints, hosts, port)
	if err != nil {
		return err
	}
	xds, err := net.Listen("tcp", xdsAddress)
	if err != nil {
		return err
	}
	api, err := net.Listen("tcp", apiAddress)
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(ctx, &p.mux, nil))
	go func() {
		<-ctx.Done()
		grpcServer.Stop()
	}()
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(api, control(p)) }()
	go func() { failed <- grpcServer.Serve(xds) }()
	fmt.Fprintf(os.Stderr, "xds listening on %s\napi listening on %s\n", xds.Addr(), api.Addr())
	err = <-failed
	if ctx.Err() != nil {
		return nil
	}
	return err
}
