package wire

import "fmt"

// Codec hands messages to gRPC as the bytes they already are.
type Codec struct{}

// Name is that of protobuf's own codec: the messages are protobuf, only nobody decodes them here.
func (Codec) Name() string { return "proto" }

// Marshal accepts []byte only.
func (Codec) Marshal(message any) ([]byte, error) {
	bytes, ok := message.([]byte)
	if !ok {
		return nil, fmt.Errorf("the raw codec was given a %T", message)
	}
	return bytes, nil
}

// Unmarshal accepts *[]byte only.
func (Codec) Unmarshal(data []byte, message any) error {
	bytes, ok := message.(*[]byte)
	if !ok {
		return fmt.Errorf("the raw codec was given a %T", message)
	}
	*bytes = data
	return nil
}
