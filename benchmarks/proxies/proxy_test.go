package main

import (
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func listenerWith(t *testing.T, managers ...*hcm.HttpConnectionManager) []byte {
	t.Helper()
	l := &listener.Listener{}
	for _, manager := range managers {
		packed, err := anypb.New(manager)
		if err != nil {
			t.Fatal(err)
		}
		l.FilterChains = append(l.FilterChains, &listener.FilterChain{Filters: []*listener.Filter{
			{ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed}},
		}})
	}
	body, err := proto.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestAListenerNamesItsRouteConfigurations(t *testing.T) {
	byName := func(name string) *hcm.HttpConnectionManager {
		return &hcm.HttpConnectionManager{
			RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: name}},
		}
	}
	names, scoped := routesOf(listenerWith(t, byName("a"), byName("b")))
	if !slices.Equal(names, []string{"a", "b"}) || scoped {
		t.Error(names, scoped)
	}
}

func TestAListenerWithScopedRoutesIsRecognised(t *testing.T) {
	names, scoped := routesOf(listenerWith(t, &hcm.HttpConnectionManager{
		RouteSpecifier: &hcm.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcm.ScopedRoutes{
			ConfigSpecifier: &hcm.ScopedRoutes_ScopedRds{ScopedRds: &hcm.ScopedRds{
				ScopedRdsConfigSource: &core.ConfigSource{},
			}},
		}},
	}))
	if len(names) != 0 || !scoped {
		t.Error(names, scoped)
	}
}
