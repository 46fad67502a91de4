package main

import "sync/atomic"

// The types a proxy of the benchmark asks for, in the order in which Envoy starts its subscriptions.
const (
	cds = iota
	eds
	lds
	srds
	rds
	kinds
)

var typeURLs = [kinds]string{
	cds:  "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	eds:  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	lds:  "type.googleapis.com/envoy.config.listener.v3.Listener",
	srds: "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
	rds:  "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}

var typeNames = [kinds]string{cds: "cds", eds: "eds", lds: "lds", srds: "srds", rds: "rds"}

func kindOf(typeURL []byte) int {
	for kind, url := range typeURLs {
		if string(typeURL) == url {
			return kind
		}
	}
	return -1
}

// tally counts what arrived of one type; bytes are those of the gRPC messages.
type tally struct {
	responses, resources, removed, bytes atomic.Int64
}

// counters is everything a benchmark wants to know about what was received.
type counters struct {
	kinds                                [kinds]tally
	streamErrors, rejections, unexpected atomic.Int64
}

func (c *counters) report() map[string]any {
	types := map[string]any{}
	total := map[string]int64{}
	for kind := range c.kinds {
		t := &c.kinds[kind]
		row := map[string]int64{
			"responses": t.responses.Load(), "resources": t.resources.Load(),
			"removed": t.removed.Load(), "bytes": t.bytes.Load(),
		}
		types[typeNames[kind]] = row
		for key, value := range row {
			total[key] += value
		}
	}
	return map[string]any{
		"types": types, "total": total, "stream_errors": c.streamErrors.Load(),
		"rejections": c.rejections.Load(), "unexpected": c.unexpected.Load(),
	}
}

func (c *counters) reset() {
	for kind := range c.kinds {
		t := &c.kinds[kind]
		for _, n := range []*atomic.Int64{&t.responses, &t.resources, &t.removed, &t.bytes} {
			n.Store(0)
		}
	}
	for _, n := range []*atomic.Int64{&c.streamErrors, &c.rejections, &c.unexpected} {
		n.Store(0)
	}
}
