package main

import (
	"fmt"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

const routeConfigurationName = "routes"

// serviceName is the cluster and EDS name of a service: the scheme Fairlead uses, so that sizes compare.
func serviceName(i int) string { return fmt.Sprintf("default/svc-%d:80", i) }

func overADS() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func makeCluster(i int) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 serviceName(i),
		ConnectTimeout:       durationpb.New(5 * time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: overADS()},
	}
}

// makeEndpoints gives service i its endpoints; the first listens on port, and a change is a new port for it.
func makeEndpoints(i, endpoints int, port uint32) *endpoint.ClusterLoadAssignment {
	locality := &endpoint.LocalityLbEndpoints{}
	for j := range endpoints {
		if j > 0 {
			port = 8080
		}
		address := fmt.Sprintf("10.%d.%d.%d", i>>8&255, i&255, j+1)
		locality.LbEndpoints = append(locality.LbEndpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: socket(address, port)}},
		})
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: serviceName(i), Endpoints: []*endpoint.LocalityLbEndpoints{locality},
	}
}

func socket(address string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

// makeVirtualHost routes host i to one of the services, or redirects it to the given host where there is one.
func makeVirtualHost(i, services int, redirect string) *route.VirtualHost {
	rule := &route.Route{
		Name:  fmt.Sprintf("host-%d", i),
		Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
	}
	if redirect != "" {
		rule.Action = &route.Route_Redirect{Redirect: &route.RedirectAction{
			HostRedirect: redirect, ResponseCode: route.RedirectAction_FOUND,
		}}
	} else {
		rule.Action = &route.Route_Route{Route: &route.RouteAction{
			ClusterSpecifier: &route.RouteAction_Cluster{Cluster: serviceName(i % services)},
		}}
	}
	return &route.VirtualHost{
		Name: rule.Name, Domains: []string{fmt.Sprintf("host-%d.example.com", i)}, Routes: []*route.Route{rule},
	}
}

func makeListener(port uint32) (*listener.Listener, error) {
	filter, err := anypb.New(&router.Router{})
	if err != nil {
		return nil, err
	}
	manager, err := anypb.New(&hcm.HttpConnectionManager{
		StatPrefix:     "http",
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{ConfigSource: overADS(), RouteConfigName: routeConfigurationName}},
		HttpFilters: []*hcm.HttpFilter{{
			Name: "envoy.filters.http.router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: filter},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &listener.Listener{
		Name: "http", Address: socket("127.0.0.1", port),
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listener.Filter_TypedConfig{TypedConfig: manager},
		}}}},
	}, nil
}
