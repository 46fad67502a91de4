package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

// credentials are a client's to an API server: files in PEM, and a token; each may be empty.
type credentials struct {
	CA, Cert, Key, Token string
}

var bearer string

// use makes all requests of this program from now on with these credentials.
func (c credentials) use() error {
	config := &tls.Config{}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s holds no certificate", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport.TLSClientConfig = config
	bearer = c.Token
	return nil
}

func authorize(request *http.Request) {
	if bearer != "" {
		request.Header.Set("Authorization", bearer)
	}
}
