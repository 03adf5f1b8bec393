package packagingtest

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose reads the file as "docker compose" does, with the given environment.
func compose(t *testing.T, environment ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{inRoot("deploy/docker-compose.yml")}, cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeExporter(t *testing.T) {
	for _, test := range []struct {
		name, want  string
		environment []string
	}{
		{"demo by default", "--demo", nil},
		{"real with two variables", "--no-demo", []string{"CLICKHOUSE_CLOUD_API_KEY=id", "CLICKHOUSE_CLOUD_API_SECRET=secret"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			exporter := compose(t, test.environment...).Services["exporter"]
			if !slices.Equal(exporter.Command, types.ShellCommand{test.want}) {
				t.Errorf("runs %q, want %s", exporter.Command, test.want)
			}
			for _, pair := range test.environment {
				name, value, _ := strings.Cut(pair, "=")
				if got := exporter.Environment[name]; got == nil || *got != value {
					t.Errorf("%s is not handed to the exporter", name)
				}
			}
		})
	}
}

func TestCompose(t *testing.T) {
	project := compose(t)
	pinned := regexp.MustCompile(`:v?\d+\.\d+\.\d+$`)
	for name, service := range project.Services {
		if name != "exporter" && !pinned.MatchString(service.Image) {
			t.Errorf("%s has image %s, which is not pinned", name, service.Image)
		}
		if !service.ReadOnly || !slices.Contains(service.CapDrop, "ALL") || len(service.CapAdd) != 0 ||
			!slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s is not confined", name)
		}
		// The exporter's is in its image.
		if service.HealthCheck == nil && name != "exporter" {
			t.Errorf("%s has no health check", name)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to the network on port %s", name, port.Published)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if !volume.ReadOnly {
				t.Errorf("%s may write to %s", name, volume.Source)
			}
			if matches, _ := filepath.Glob(volume.Source); len(matches) == 0 {
				t.Errorf("%s mounts %s, which is not there", name, volume.Source)
			}
		}
	}
	// Grafana looks for dashboards where its provisioning says.
	provisioning := string(read(t, inRoot("deploy/grafana/provisioning/dashboards/clickhouse-postgres.yml")))
	if !slices.ContainsFunc(project.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return filepath.Base(v.Source) == "dashboards" && strings.Contains(provisioning, "path: "+v.Target+"\n")
	}) {
		t.Error("the dashboards are not mounted where Grafana is told to look for them")
	}
	// What the configuration mounted into Prometheus names has to be there.
	config := string(read(t, inRoot("deploy/prometheus/prometheus.yml")))
	for _, name := range []string{"exporter", "alertmanager"} {
		if _, ok := project.Services[name]; !ok || !strings.Contains(config, name+":") {
			t.Errorf("Prometheus and docker-compose.yml do not agree on %s", name)
		}
	}
}

func TestAlertmanagerConfiguration(t *testing.T) {
	amtool, err := exec.LookPath("amtool")
	if err != nil {
		t.Skip("amtool is not installed: apt-get install prometheus-alertmanager")
	}
	if out, err := exec.Command(amtool, "check-config", inRoot("deploy/docker/alertmanager.yml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
