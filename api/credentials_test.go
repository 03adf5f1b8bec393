package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	testKeyID  = "kEyIdOfTheTest"
	testSecret = `4b1dXq/s3cr3t+"of\the%test`
)

// checkNoSecret fails the test if the secret shows in any way of formatting v.
func checkNoSecret(t *testing.T, v any) {
	t.Helper()
	encoded, _ := json.Marshal(v)
	formatted := []string{string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		formatted = append(formatted, fmt.Sprintf(verb, v), fmt.Sprintf(verb, []any{v}), fmt.Sprintf(verb, struct{ V any }{v}))
	}
	secrets := []string{testSecret, fmt.Sprintf("%x", testSecret), "s3cr3t"}
	for _, text := range formatted {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the secret shows in %s", text)
				return
			}
		}
	}
}

func TestCredentialsDoNotShow(t *testing.T) {
	pair := Credentials{KeyID: testKeyID, KeySecret: testSecret}
	checkNoSecret(t, pair)
	checkNoSecret(t, &pair)
	checkNoSecret(t, map[string]Credentials{"a": pair})
	source := StaticCredentials(testKeyID, testSecret)
	checkNoSecret(t, source)
	if same := source; source != same || source == StaticCredentials(testKeyID, testSecret) {
		t.Error("sources cannot be told apart")
	}
	checkNoSecret(t, Config{Credentials: StaticCredentials(testKeyID, testSecret)})
	if got, want := fmt.Sprintf("%v", pair), "API key "+testKeyID; got != want {
		t.Errorf("formatted as %q, want %q", got, want)
	}
	checkNoSecret(t, newTestClient(t, "http://localhost"))
}

func TestStaticCredentials(t *testing.T) {
	for _, c := range []struct{ id, secret, err string }{
		{id: testKeyID, secret: testSecret},
		{id: "\t" + testKeyID + "\n", secret: " " + testSecret + "\r\n"},
		{"", testSecret, "API key id is empty; put the API key id there"},
		{testKeyID, "", "API key secret is empty; put the API key secret there"},
		{testKeyID, " \n", "API key secret is empty; put the API key secret there"},
		{testKeyID, "s3cr3t\ns3cr3t", "API key secret contains a space, line break or other character that no key has; put the API key secret there and nothing else"},
		{testKeyID, "s3cr3t\x00", "API key secret contains a space, line break or other character that no key has; put the API key secret there and nothing else"},
		{testKeyID, "s3cr3t\xff", "API key secret contains a space, line break or other character that no key has; put the API key secret there and nothing else"},
		{testKeyID, "\"s3cr3t\"", "API key secret is in quotes; leave them out, since they become part of it"},
		{testKeyID, "\uFEFFs3cr3t", "API key secret contains a space, line break or other character that no key has; put the API key secret there and nothing else"},
		{testKeyID, strings.Repeat("s3cr3t", 1000), "API key secret is too long for a key; put the API key secret there and nothing else"},
		{testKeyID + ":" + testSecret, testSecret, "API key id contains a colon, which no key id has; put the API key id there, without the secret"},
	} {
		got, err := StaticCredentials(c.id, c.secret).Credentials()
		if c.err == "" {
			if want := (Credentials{testKeyID, testSecret}); err != nil || got != want {
				t.Errorf("id %q: not the pair, error %v", c.id, err)
			}
			continue
		}
		checkCredentialsError(t, err, c.err)
	}
}

func checkCredentialsError(t *testing.T, err error, want string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindCredentials {
		t.Fatalf("error %v, want one of kind credentials", err)
	}
	if err.Error() != want {
		t.Errorf("error is\n%s\nwant\n%s", err, want)
	}
	checkNoSecret(t, err)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keyFiles writes a pair as Kubernetes mounts a secret: files that are links into
// a directory that is a link to a dated one. The returned function swaps it.
func keyFiles(t *testing.T, id, secret string) (idFile, secretFile string, swap func(id, secret string)) {
	t.Helper()
	root := t.TempDir()
	n := 0
	swap = func(id, secret string) {
		t.Helper()
		n++
		dated := fmt.Sprintf("..2026_%d", n)
		if err := os.Mkdir(filepath.Join(root, dated), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(root, dated, "id"), id)
		writeFile(t, filepath.Join(root, dated, "secret"), secret)
		// The same times: what changed cannot be told from them.
		for _, name := range []string{"id", "secret"} {
			if err := os.Chtimes(filepath.Join(root, dated, name), time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(dated, filepath.Join(root, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap(id, secret)
	for _, name := range []string{"id", "secret"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(root, "id"), filepath.Join(root, "secret"), swap
}

func TestFileCredentialsRotation(t *testing.T) {
	idFile, secretFile, swap := keyFiles(t, "id-1\n", "secret-1\r\n")
	source := FileCredentials(idFile, secretFile)
	check := func(id, secret string) {
		t.Helper()
		got, err := source.Credentials()
		if err != nil || got.KeyID != id || got.KeySecret != secret {
			t.Errorf("got %s/%s, error %v; want %s/%s", got.KeyID, got.KeySecret, err, id, secret)
		}
	}
	check("id-1", "secret-1")
	swap("id-2", "secret-2") // same size, same times
	check("id-2", "secret-2")

	// In place, one after the other, and by another file.
	writeFile(t, secretFile, "secret-3")
	check("id-2", "secret-3")
	source.Invalidate()
	check("id-2", "secret-3")
	if err := os.Remove(idFile); err != nil {
		t.Fatal(err)
	}
	_, err := source.Credentials()
	checkCredentialsError(t, err, "API key id ("+idFile+") does not exist (stat "+idFile+": no such file or directory); check the path, or create the file")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v does not wrap the cause", err)
	}
	writeFile(t, idFile, "id-4")
	check("id-4", "secret-3")
}

func TestFileCredentialsErrors(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	writeFile(t, good, testSecret)
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, "\n")
	lines := filepath.Join(dir, "lines")
	writeFile(t, lines, "s3cr3t\ns3cr3t\n")
	large := filepath.Join(dir, "large")
	writeFile(t, large, strings.Repeat("s3cr3t", 1<<16))
	unreadable := filepath.Join(dir, "unreadable")
	writeFile(t, unreadable, testSecret)
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")

	cases := map[string]string{
		"":      "API key secret (no file named) is not given; name its file",
		missing: "API key secret (" + missing + ") does not exist (stat " + missing + ": no such file or directory); check the path, or create the file",
		dir:     "API key secret (" + dir + ") is not a regular file; check the path",
		empty:   "API key secret (" + empty + ") is empty; put the API key secret there",
		lines:   "API key secret (" + lines + ") contains a space, line break or other character that no key has; put the API key secret there and nothing else",
		large:   "API key secret (" + large + ") is too long for a key; put the API key secret there and nothing else",
	}
	if os.Geteuid() != 0 { // root reads everything
		cases[unreadable] = "API key secret (" + unreadable + ") is not readable (open " + unreadable + ": permission denied); give the user that the exporter runs as the right to read it"
	}
	for path, want := range cases {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := FileCredentials(good, path).Credentials()
			checkCredentialsError(t, err, want)
		})
	}
	_, err := FileCredentials(missing, good).Credentials()
	checkCredentialsError(t, err, "API key id ("+missing+") does not exist (stat "+missing+": no such file or directory); check the path, or create the file")
}
