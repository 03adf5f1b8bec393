package command

import "testing"

func TestLoopback(t *testing.T) {
	for in, want := range map[string]string{
		":9924":          "localhost:9924",
		"0.0.0.0:1":      "localhost:1",
		"[::]:2":         "localhost:2",
		"127.0.0.2:3":    "127.0.0.2:3",
		"[::1]:4":        "[::1]:4",
		"db.internal:5":  "db.internal:5",
		"vsock://:9924":  "",
		"nonsense":       "",
		"unix:///run/it": "",
	} {
		got, err := loopback(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}
