package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"

	"fairlead.dev/benchmarks/wire"
)

// echo serves streams that send every message back, then one of the given size, and ends with the client.
func echo(t *testing.T, last int) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(wire.Codec{}), grpc.MaxRecvMsgSize(1<<30),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var message []byte
			if err := stream.RecvMsg(&message); err != nil {
				return err
			}
			if err := stream.SendMsg(message); err != nil {
				return err
			}
			return stream.SendMsg(make([]byte, last))
		}),
	)
	go func() { _ = server.Serve(socket) }()
	t.Cleanup(server.Stop)
	return socket.Addr().String()
}

func TestMessagesLargerThanTheWindowsPassBothWays(t *testing.T) {
	const last = connectionWindow + 1
	s, err := openStream(context.Background(), echo(t, last))
	if err != nil {
		t.Fatal(err)
	}
	defer s.connection.Close()
	sent := bytes.Repeat([]byte("0123456789"), 50_000) // several of the server's first windows
	if err := s.send(sent); err != nil {
		t.Fatal(err)
	}
	if got, err := s.receive(); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if got, err := s.receive(); err != nil || len(got) != last {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := s.receive(); err != io.EOF {
		t.Errorf("the end of the stream is %v", err)
	}
}
