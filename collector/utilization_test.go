package collector

import (
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

func TestUtilization(t *testing.T) {
	parse := func(text string) *exposition.Metrics {
		page, err := exposition.NewParser("").Parse([]byte(text), "text/plain")
		if err != nil {
			t.Fatal(err)
		}
		return page.Groups[""]
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
PostgresServer_StorageLimitBytes 5e10
`
	text := func(v *float64) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprintf("%.4g", *v)
	}
	for _, test := range []struct{ name, before, now, want string }{
		{"first", "", cpu("1", "1", "8") + rest, "none 7 0.625 5e+10"},
		{"used", cpu("1", "1", "8"), cpu("2", "2", "16") + rest, "0.2 7 0.625 5e+10"},
		{"idle", cpu("1", "1", "8"), cpu("1", "1", "18"), "0 none none none"},
		{"busy", cpu("1", "1", "8"), cpu("11", "1", "8"), "1 none none none"},
		{"no idle time", `PostgresServer_CPUSeconds_Total 1` + "\n", `PostgresServer_CPUSeconds_Total 2` + "\n", "none none none none"},
		{"began anew", cpu("100", "1", "8"), cpu("2", "2", "16"), "none none none none"},
		{"idle began anew", cpu("1", "1", "800"), cpu("2", "2", "16"), "none none none none"},
		{"no numbers", cpu("1", "1", "8"), cpu("NaN", "2", "16") + "PostgresServer_ActiveConnections NaN\nPostgresServer_FilesystemUsedPercent +Inf\n", "none none none none"},
		{"infinite", cpu("1", "1", "8"), cpu("+Inf", "2", "16"), "none none none none"},
		{"were no numbers", cpu("NaN", "1", "8"), cpu("1", "2", "16"), "none none none none"},
		{"none before", rest, cpu("2", "2", "16"), "none none none none"},
		{"nothing", "a 1\n", "a 2\n", "none none none none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var last utilization
			if test.before != "" {
				last = newUtilization(parse(test.before), last)
			}
			f := newUtilization(parse(test.now), last)
			if got := text(f.cpu) + " " + text(f.connections) + " " + text(f.disk) + " " + text(f.diskSize); got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
	first := newUtilization(parse(cpu("1", "1", "8")), utilization{})
	second := newUtilization(parse(cpu("2", "2", "16")), first)
	third := newUtilization(parse(cpu("2", "2", "16")+rest), second)
	if text(third.cpu) != "0.2" {
		t.Errorf("without a change of CPU time: %s", text(third.cpu))
	}
}
