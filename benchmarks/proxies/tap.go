package main

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"fairlead.dev/benchmarks/wire"
)

// firstTap keeps the observer numbers of tapped streams apart from those of simulated proxies.
const firstTap = 1 << 20

// tap stands between a real Envoy and its control plane and forwards every message unread and unchanged. It sees
// when Envoy acknowledges a response, which neither side tells in a way that is the same for two servers, and how
// many bytes a response takes. It costs both servers the same: about a tenth of a millisecond each way.
type tap struct {
	tracker  *tracker
	counters counters
	address  string

	server   *grpc.Server
	upstream *grpc.ClientConn
	streams  atomic.Int64

	mu     sync.Mutex
	routes map[string][]byte // the last RouteConfiguration seen, by name
}

func newTap(t *tracker, upstream string) (*tap, error) {
	connection, err := grpc.NewClient(
		"passthrough:///"+upstream,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(wire.Codec{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30),
		),
	)
	if err != nil {
		return nil, err
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	result := &tap{
		tracker: t, address: socket.Addr().String(), upstream: connection,
		routes: map[string][]byte{},
	}
	result.server = grpc.NewServer(
		grpc.ForceServerCodec(wire.Codec{}), grpc.UnknownServiceHandler(result.forward),
		grpc.MaxRecvMsgSize(1<<30), grpc.MaxSendMsgSize(1<<30),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connectionWindow),
	)
	go func() { _ = result.server.Serve(socket) }() // ends by close
	return result, nil
}

func (t *tap) close() {
	t.server.Stop()
	_ = t.upstream.Close()
}

// seen is one marker in a response that Envoy has not answered yet.
type seen struct {
	resource []byte
	marker   int
}

// forward joins one stream of Envoy's to one of the server's.
func (t *tap) forward(_ any, down grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(down)
	if !ok {
		return errors.New("a stream without a method")
	}
	delta := strings.HasSuffix(method, "/DeltaAggregatedResources")
	up, err := t.upstream.NewStream(down.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	observer := firstTap + int(t.streams.Add(1))
	if strings.HasSuffix(method, "AggregatedResources") { // others, like load reports, carry no configuration
		t.tracker.join(observer)
		defer t.tracker.leave(observer)
	}

	var mu sync.Mutex
	unanswered := map[string][]seen{} // by nonce
	go func() {
		for {
			var message []byte
			if down.RecvMsg(&message) != nil {
				_ = up.CloseSend()
				return
			}
			at := time.Now()
			if request, err := wire.ParseRequest(message, delta); err == nil && len(request.Nonce) > 0 {
				mu.Lock()
				answered := unanswered[string(request.Nonce)]
				delete(unanswered, string(request.Nonce))
				mu.Unlock()
				t.answered(observer, answered, request.Rejected, at)
			}
			if up.SendMsg(message) != nil {
				return
			}
		}
	}()
	for {
		var message []byte
		if err := up.RecvMsg(&message); err != nil {
			return err
		}
		if response, err := wire.ParseResponse(message, delta); err == nil {
			markers := t.observe(&response, len(message))
			mu.Lock()
			unanswered[string(response.Nonce)] = markers
			mu.Unlock()
		}
		if err := down.SendMsg(message); err != nil {
			return err
		}
	}
}

func (t *tap) answered(observer int, markers []seen, rejected bool, at time.Time) {
	if rejected {
		t.counters.rejections.Add(1)
		return
	}
	for _, m := range markers {
		t.tracker.saw(observer, m.resource, m.marker, at)
	}
}

// observe counts a response and picks out what is worth remembering of it.
func (t *tap) observe(response *wire.Response, size int) []seen {
	kind := kindOf(response.TypeURL)
	if kind < 0 {
		t.counters.unexpected.Add(1)
		return nil
	}
	count := &t.counters.kinds[kind]
	count.responses.Add(1)
	count.resources.Add(int64(len(response.Resources)))
	count.removed.Add(int64(len(response.Removed)))
	count.bytes.Add(int64(size))
	var markers []seen
	for _, resource := range response.Resources {
		switch {
		case kind == eds && t.tracker.expecting():
			markers = append(markers, seen{resource: resource.Name, marker: wire.MaxPort(resource.Body)})
		case kind == rds:
			t.mu.Lock()
			t.routes[string(resource.Name)] = resource.Body
			t.mu.Unlock()
		}
	}
	return markers
}
