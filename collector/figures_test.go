package collector

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

type unchanged struct{}

func (unchanged) Group(labels.Labels) string { return "" }
func (unchanged) Epoch(string) uint64        { return 0 }
func (unchanged) Class(string) string        { return "" }
func (unchanged) Passes(string) bool         { return false }
func (unchanged) Rewrite(_ string, lset labels.Labels) (labels.Labels, exposition.Verdict) {
	return lset, exposition.Keep
}

func TestFigures(t *testing.T) {
	block := func(text string) *exposition.Block {
		page, err := exposition.NewSource().Decode([]byte(text), "text/plain", unchanged{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Block("")
	}
	cpu := func(user, iowait, idle string) string {
		return fmt.Sprintf(`PostgresServer_CPUSeconds_Total{mode="user"} %s
PostgresServer_CPUSeconds_Total{mode="iowait"} %s
PostgresServer_CPUSeconds_Total{mode="idle"} %s
`, user, iowait, idle)
	}
	const rest = `PostgresServer_ActiveConnections{state="active"} 3
PostgresServer_ActiveConnections{state="idle"} 4
PostgresServer_FilesystemUsedPercent 62.5
`
	text := func(f figure) string {
		v := f.pointer()
		if v == nil {
			return "none"
		}
		return fmt.Sprintf("%.4g", *v)
	}
	for _, test := range []struct{ name, before, now, want string }{
		{"first", "", cpu("1", "1", "8") + rest, "none 7 0.625"},
		{"used", cpu("1", "1", "8"), cpu("2", "2", "16") + rest, "0.2 7 0.625"},
		{"idle", cpu("1", "1", "8"), cpu("1", "1", "18"), "0 none none"},
		{"busy", cpu("1", "1", "8"), cpu("11", "1", "8"), "1 none none"},
		{"no idle time", `PostgresServer_CPUSeconds_Total 1` + "\n", `PostgresServer_CPUSeconds_Total 2` + "\n", "none none none"},
		{"began anew", cpu("100", "1", "8"), cpu("2", "2", "16"), "none none none"},
		{"idle began anew", cpu("1", "1", "800"), cpu("2", "2", "16"), "none none none"},
		{"no numbers", cpu("1", "1", "8"), cpu("NaN", "2", "16") + "PostgresServer_ActiveConnections NaN\nPostgresServer_FilesystemUsedPercent +Inf\n", "none none none"},
		{"infinite", cpu("1", "1", "8"), cpu("+Inf", "2", "16"), "none none none"},
		{"were no numbers", cpu("NaN", "1", "8"), cpu("1", "2", "16"), "none none none"},
		{"none before", rest, cpu("2", "2", "16"), "none none none"},
		{"nothing", "a 1\n", "a 2\n", "none none none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var last figures
			if test.before != "" {
				last = newFigures(block(test.before), last)
			}
			f := newFigures(block(test.now), last)
			if got := text(f.cpuUsed) + " " + text(f.connections) + " " + text(f.diskUsed); got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
	first := newFigures(block(cpu("1", "1", "8")), figures{})
	second := newFigures(block(cpu("2", "2", "16")), first)
	third := newFigures(block(cpu("2", "2", "16")+rest), second)
	if text(third.cpuUsed) != "0.2" {
		t.Errorf("without a change of CPU time: %s", text(third.cpuUsed))
	}
}

// Where the series are is only remembered as long as it is true.
func TestFiguresFollowTheirSeries(t *testing.T) {
	source := exposition.NewSource()
	var f figures
	for _, test := range []struct {
		page string
		want figure
	}{
		{"a 1\n" + connectionsName + " 2\nz 3\n", figure{2, true}},
		{"a 4\n" + connectionsName + " 5\nz 6\n", figure{5, true}},
		{"A 7\na 8\n" + connectionsName + " 9\nz 10\n", figure{9, true}},
		{"a 11\n", figure{}},
		{connectionsName + "{state=\"idle\"} 12\n" + connectionsName + " 13\n", figure{25, true}},
	} {
		page, err := source.Decode([]byte(test.page), "text/plain", unchanged{})
		if err != nil {
			t.Fatal(err)
		}
		f = newFigures(page.Block(""), f)
		if f.connections != test.want {
			t.Errorf("%v, not %v, of\n%s", f.connections, test.want, test.page)
		}
	}
}
