package wire_test

import (
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	status "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"fairlead.dev/benchmarks/wire"
)

func encode(t *testing.T, message proto.Message) []byte {
	t.Helper()
	bytes, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	result, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func assignment(ports ...uint32) *endpoint.ClusterLoadAssignment {
	locality := &endpoint.LocalityLbEndpoints{}
	for _, port := range ports {
		address := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: "10.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
		}}}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address}},
		})
	}
	return &endpoint.ClusterLoadAssignment{ClusterName: "a", Endpoints: []*endpoint.LocalityLbEndpoints{locality}}
}

func TestADeltaResponseIsReadWithoutDecodingItsResources(t *testing.T) {
	response, err := wire.ParseResponse(encode(t, &discovery.DeltaDiscoveryResponse{
		TypeUrl: "type", Nonce: "7", RemovedResources: []string{"gone"}, SystemVersionInfo: "v",
		Resources: []*discovery.Resource{{Name: "a", Version: "1", Resource: packed(t, assignment(80, 20017, 81))}},
	}), true)
	if err != nil || string(response.TypeURL) != "type" || string(response.Nonce) != "7" {
		t.Fatalf("%v %v", response, err)
	}
	if len(response.Removed) != 1 || string(response.Removed[0]) != "gone" {
		t.Errorf("removed: %q", response.Removed)
	}
	resource := response.Resources[0]
	if string(resource.Name) != "a" || string(resource.Version) != "1" || wire.MaxPort(resource.Body) != 20017 {
		t.Errorf("resource: %q %q %d", resource.Name, resource.Version, wire.MaxPort(resource.Body))
	}
}

func TestAStateOfTheWorldResponseNamesResourcesByTheirFirstField(t *testing.T) {
	response, err := wire.ParseResponse(encode(t, &discovery.DiscoveryResponse{
		VersionInfo: "9", TypeUrl: "type", Nonce: "7", Resources: []*anypb.Any{packed(t, assignment(80))},
	}), false)
	if err != nil || len(response.Resources) != 1 || string(response.Resources[0].Name) != "a" {
		t.Fatalf("%v %v", response, err)
	}
}

func TestARequestTellsItsNonceAndWhetherItRefuses(t *testing.T) {
	refusal := &status.Status{Code: 3, Message: "no"}
	for _, delta := range []bool{true, false} {
		var message proto.Message = &discovery.DiscoveryRequest{TypeUrl: "t", ResponseNonce: "n", ErrorDetail: refusal}
		if delta {
			message = &discovery.DeltaDiscoveryRequest{TypeUrl: "t", ResponseNonce: "n", ErrorDetail: refusal}
		}
		request, err := wire.ParseRequest(encode(t, message), delta)
		if err != nil || string(request.TypeURL) != "t" || string(request.Nonce) != "n" || !request.Rejected {
			t.Errorf("delta=%t: %v %v", delta, request, err)
		}
	}
}

func TestAClusterAsksForItsEndpointsByServiceNameOrByItsOwn(t *testing.T) {
	eds := &cluster.Cluster_Type{Type: cluster.Cluster_EDS}
	named := &cluster.Cluster{
		Name: "a", ClusterDiscoveryType: eds, EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{ServiceName: "b"},
	}
	for want, message := range map[string]*cluster.Cluster{
		"b": named,
		"a": {Name: "a", ClusterDiscoveryType: eds},
		"":  {Name: "a", ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STRICT_DNS}},
	} {
		if got := string(wire.EDSName(encode(t, message))); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAScopeRefersToARouteConfigurationOrHoldsIt(t *testing.T) {
	referring := encode(t, &route.ScopedRouteConfiguration{Name: "s", RouteConfigurationName: "r"})
	inline := encode(t, &route.ScopedRouteConfiguration{Name: "s", RouteConfiguration: &route.RouteConfiguration{Name: "r"}})
	if string(wire.ScopeRoute(referring)) != "r" || wire.ScopeRoute(inline) != nil {
		t.Errorf("%q %q", wire.ScopeRoute(referring), wire.ScopeRoute(inline))
	}
}

func TestAMalformedMessageIsAnError(t *testing.T) {
	if _, err := wire.ParseResponse([]byte{0x12, 0xff}, true); err == nil {
		t.Error("no error")
	}
}
