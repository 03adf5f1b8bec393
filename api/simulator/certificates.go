package simulator

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

func (s *Simulator) getCertificates(c *call) (any, error) {
	if _, err := s.service(c); err != nil {
		return nil, err
	}
	pem, err := s.authority()
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	return answer{
		status: http.StatusOK, contentType: "application/x-pem-file", body: pem,
		header: http.Header{"Content-Disposition": {`attachment; filename="postgres-ca-certificate.pem"`}},
	}, nil
}

// certificate returns a self-signed CA certificate, the same one for the same seed and epoch.
func certificate(seed uint64, epoch time.Time) ([]byte, error) {
	var b [ed25519.SeedSize]byte
	copy(b[:], seeded.Base62(seeded.Hash(seed, "authority"), len(b)))
	key := ed25519.NewKeyFromSeed(b[:])
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Simulated Postgres CA"},
		NotBefore:             epoch.AddDate(-2, 0, 0),
		NotAfter:              epoch.AddDate(20, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
