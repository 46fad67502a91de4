// Signer is the yardstick of the row `issuing`: what Go's standard library needs to turn certificate requests into
// X.509-SVIDs, on one core. It reads PEM requests from a file, judges and signs each as an authority does, and prints the
// CPU time that one took, in microseconds.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"runtime"
	"syscall"
	"time"
)

func main() {
	requests := flag.String("requests", "", "PEM file with certificate requests")
	count := flag.Int("count", 1000, "certificates to sign")
	identity := flag.String("identity", "spiffe://cluster.local/ns/shop/sa/reviews", "whose they are")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	if err := run(*requests, *count, *identity); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string, count int, identity string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var requests [][]byte
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		requests = append(requests, block.Bytes)
	}
	uri, err := url.Parse(identity)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	root, err := authority(key)
	if err != nil {
		return err
	}
	before := cpu()
	for i := range count {
		if err := sign(requests[i%len(requests)], root, key, uri); err != nil {
			return err
		}
	}
	fmt.Printf("%.3f\n", float64(cpu()-before)/float64(count))
	return nil
}

// sign does for a request what ours does: judge it, sign, read the result again, and write PEM.
func sign(der []byte, root *x509.Certificate, key *ecdsa.PrivateKey, uri *url.URL) error {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if err := request.CheckSignature(); err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return err
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.Add(-2 * time.Minute),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{uri},

		BasicConstraintsValid: true,
	}
	made, err := x509.CreateCertificate(rand.Reader, leaf, root, request.PublicKey, key)
	if err != nil {
		return err
	}
	if _, err := x509.ParseCertificate(made); err != nil {
		return err
	}
	if len(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})) == 0 {
		return fmt.Errorf("nothing was written")
	}
	return nil
}

func authority(key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "peer"},
		NotBefore:    now,
		NotAfter:     now.Add(365 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageCertSign,
		IsCA:         true,

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// cpu is this process' time on a core, in microseconds.
func cpu() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return used.Utime.Nano()/1000 + used.Stime.Nano()/1000
}
