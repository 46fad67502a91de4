// Package wire reads the few fields of xDS messages that a benchmark needs, straight from their bytes.
//
// A simulated proxy must cost far less than the server it loads, so nothing here decodes a resource: names, versions
// and nonces are slices of the received message, valid as long as it is. Field numbers are those of
// envoy/service/discovery/v3/discovery.proto and of the resources' own files; wire_test.go holds them against the
// generated types.
package wire

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

var errMalformed = errors.New("malformed protobuf message")

// Resource is one resource of a response; Version is empty in the state-of-the-world protocol.
type Resource struct {
	Name, Version, Body []byte
}

// Response is a DiscoveryResponse or a DeltaDiscoveryResponse.
type Response struct {
	TypeURL, Nonce []byte
	Resources      []Resource
	Removed        [][]byte
}

// Request is what a tap needs of a DiscoveryRequest or a DeltaDiscoveryRequest.
type Request struct {
	TypeURL, Nonce []byte
	Rejected       bool
}

// each calls visit for every field of message: bytes for length-delimited fields, number for varints.
func each(message []byte, visit func(field protowire.Number, bytes []byte, number uint64) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		var bytes []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		if err := visit(field, bytes, number); err != nil {
			return err
		}
	}
	return nil
}

// ParseResponse reads a response of the delta protocol, or of the state-of-the-world one.
func ParseResponse(message []byte, delta bool) (Response, error) {
	var response Response
	err := each(message, func(field protowire.Number, bytes []byte, _ uint64) error {
		switch {
		case field == 2:
			resource, err := parseResource(bytes, delta)
			if err != nil {
				return err
			}
			response.Resources = append(response.Resources, resource)
		case field == 4:
			response.TypeURL = bytes
		case field == 5:
			response.Nonce = bytes
		case field == 6 && delta:
			response.Removed = append(response.Removed, bytes)
		}
		return nil
	})
	return response, err
}

func parseResource(message []byte, delta bool) (Resource, error) {
	if !delta {
		body := subfield(message, 2)
		// Every resource type served over ADS here calls its first field its name.
		return Resource{Name: subfield(body, 1), Body: body}, nil
	}
	var resource Resource
	err := each(message, func(field protowire.Number, bytes []byte, _ uint64) error {
		switch field {
		case 1:
			resource.Version = bytes
		case 2:
			resource.Body = subfield(bytes, 2)
		case 3:
			resource.Name = bytes
		}
		return nil
	})
	return resource, err
}

// ParseRequest reads what a proxy sent: which response it answers, and whether it refused it.
func ParseRequest(message []byte, delta bool) (Request, error) {
	typeURL, nonce, rejected := protowire.Number(4), protowire.Number(5), protowire.Number(6)
	if delta {
		typeURL, nonce, rejected = 2, 6, 7
	}
	var request Request
	err := each(message, func(field protowire.Number, bytes []byte, _ uint64) error {
		switch field {
		case typeURL:
			request.TypeURL = bytes
		case nonce:
			request.Nonce = bytes
		case rejected:
			request.Rejected = true
		}
		return nil
	})
	return request, err
}

// subfield returns the last occurrence of a length-delimited field, or nil.
func subfield(message []byte, wanted protowire.Number) []byte {
	var found []byte
	// A malformed resource is not the benchmark's business: it ends the walk, and what was found stands.
	_ = each(message, func(field protowire.Number, bytes []byte, _ uint64) error {
		if field == wanted {
			found = bytes
		}
		return nil
	})
	return found
}

// EDSName returns the name under which a Cluster's endpoints are asked for, or nil where it does not use EDS.
func EDSName(cluster []byte) []byte {
	var name, service []byte
	eds := false
	_ = each(cluster, func(field protowire.Number, bytes []byte, number uint64) error {
		switch field {
		case 1:
			name = bytes
		case 2:
			eds = number == 3 // Cluster.DiscoveryType.EDS
		case 3:
			service = subfield(bytes, 2)
		}
		return nil
	})
	if !eds {
		return nil
	}
	if len(service) > 0 {
		return service
	}
	return name
}

// ScopeRoute returns the RouteConfiguration that a ScopedRouteConfiguration refers to, or nil where it is inline.
func ScopeRoute(scope []byte) []byte { return subfield(scope, 2) }

// MaxPort returns the highest port among a ClusterLoadAssignment's endpoints: the marker of a change.
func MaxPort(assignment []byte) int {
	highest := 0
	_ = each(assignment, func(field protowire.Number, locality []byte, _ uint64) error {
		if field != 2 {
			return nil
		}
		return each(locality, func(field protowire.Number, lbEndpoint []byte, _ uint64) error {
			if field != 2 {
				return nil
			}
			socket := subfield(subfield(subfield(lbEndpoint, 1), 1), 1)
			return each(socket, func(field protowire.Number, _ []byte, port uint64) error {
				if field == 3 {
					highest = max(highest, int(port))
				}
				return nil
			})
		})
	})
	return highest
}
