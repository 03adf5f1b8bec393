package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// Healthcheck asks the exporter that runs on this machine by the same settings how it
// is, and returns nil if it is well.
//
// Neither question takes a password. A server that insists on a client
// certificate is alive, since it takes a live process to insist; whether it is
// ready is only told to one who has a certificate. The server's is not verified,
// since its name is seldom that of the loopback interface, and nothing secret is sent.
func Healthcheck(ctx context.Context, c *config.Config) error {
	h := c.Healthcheck
	if c.SystemdSocket && !c.Given("web.listen-address") {
		return errors.New("healthcheck cannot know the port of a systemd socket: give it --web.listen-address")
	}
	address, err := loopback(c.ListenAddresses[0])
	if err != nil {
		return err
	}
	scheme := "http"
	encrypted, err := servesTLS(c.WebConfigFile)
	if err != nil {
		return err
	}
	if encrypted {
		scheme = "https"
	}
	path := "/-/healthy"
	if h.Ready {
		path = "/-/ready"
	}

	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+path, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	tlsConfig := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see above
	if h.CertFile != "" || h.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(h.CertFile, h.KeyFile)
		if err != nil {
			return fmt.Errorf("healthcheck: --client-cert-file and --client-key-file: %w", err)
		}
		tlsConfig.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{
		Proxy:             nil, // the environment's is for upstream
		DisableKeepAlives: true,
		TLSClientConfig:   tlsConfig,
	}
	resp, err := transport.RoundTrip(r)
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error" && !h.Ready:
		return nil // a TLS alert: our lack of a certificate is refused
	case errors.As(err, &alert) && alert.Op == "remote error":
		return fmt.Errorf("healthcheck: whether the exporter is ready is told by mutual TLS only (%w): give --client-cert-file and --client-key-file a certificate that it accepts, for example Prometheus's", alert.Err)
	case err != nil:
		return fmt.Errorf("healthcheck: the exporter does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return fmt.Errorf("healthcheck: %s: %s", resp.Status, strings.Join(strings.Fields(string(body)), " "))
}

// loopback returns where a process on this machine finds a listener.
func loopback(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || strings.Contains(listen, "://") {
		return "", fmt.Errorf("healthcheck cannot use --web.listen-address=%s: give one like :9924", listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}

// servesTLS tells whether a web configuration file, "" for none, asks for TLS.
func servesTLS(file string) (bool, error) {
	if file == "" {
		return false, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("--web.config.file: %w", err)
	}
	var c toolkit.Config
	if err := yaml.Unmarshal(data, &c); err != nil {
		return false, fmt.Errorf("--web.config.file=%s: %s", file, strings.Join(strings.Fields(err.Error()), " "))
	}
	return c.TLSConfig.IsEnabled(), nil
}
