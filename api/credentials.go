package api

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxKeyFileBytes is far more than any key needs and little enough to read on
// every request, even if the path was meant for another file.
const maxKeyFileBytes = 4 << 10

// Credentials are an API key. However they are formatted, logged or marshaled,
// the secret does not show.
type Credentials struct {
	KeyID     string
	KeySecret string `json:"-" yaml:"-"`
}

// String returns the key's id only.
func (c Credentials) String() string { return "API key " + c.KeyID }

// GoString returns the same as String.
func (c Credentials) GoString() string { return c.String() }

// Format writes the same as String for every verb.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// CredentialsSource supplies the API key. Implementations are safe for concurrent
// use. Their errors must not hold the secret.
type CredentialsSource interface {
	// Credentials returns the current pair; it is called before every request.
	Credentials() (Credentials, error)
	// Invalidate says that upstream refused the pair (401), so that a source that
	// caches reads it anew for the next call.
	Invalidate()
}

// uncached is a source that asks anew for every call. That a function holds the
// pair also keeps the secret from whoever formats the source with %+v. Sources are
// pointers, so that callers can tell one from another.
type uncached struct{ read func() (Credentials, error) }

// Credentials calls read.
func (u *uncached) Credentials() (Credentials, error) { return u.read() }

// Invalidate does nothing, as nothing is cached.
func (u *uncached) Invalidate() {}

// StaticCredentials returns a source that always yields the given pair, less the
// white space around it. An empty or malformed pair is reported by Credentials,
// as an [*Error] of kind [KindCredentials].
func StaticCredentials(keyID, secret string) CredentialsSource {
	return &uncached{func() (Credentials, error) { return newCredentials(keyID, "", secret, "") }}
}

// FileCredentials returns a source that reads the pair from two files, less the
// white space around it. The files are read for every request, so that a rotated
// key is used by the next one, whichever way the file was replaced; in return the
// files must be regular ones. A file that is missing, unreadable, empty or no key
// is reported by Credentials as an [*Error] of kind [KindCredentials].
func FileCredentials(keyIDFile, secretFile string) CredentialsSource {
	return &uncached{func() (Credentials, error) {
		id, err := readKeyFile(keyIDName, keyIDFile)
		if err != nil {
			return Credentials{}, err
		}
		secret, err := readKeyFile(keySecretName, secretFile)
		if err != nil {
			return Credentials{}, err
		}
		return newCredentials(id, keyIDFile, secret, secretFile)
	}}
}

// What the halves of a key are called.
const (
	keyIDName     = "API key id"
	keySecretName = "API key secret"
)

// newCredentials makes a pair of what was found, in files if they are named.
func newCredentials(id, idFile, secret, secretFile string) (Credentials, error) {
	id, err := checkKey(keyIDName, idFile, id)
	if err != nil {
		return Credentials{}, err
	}
	if strings.Contains(id, ":") {
		// Basic auth ends the user name at the first colon.
		return Credentials{}, keyError(keyIDName, idFile, "contains a colon, which no key id has",
			"put the API key id there, without the secret", nil)
	}
	if secret, err = checkKey(keySecretName, secretFile, secret); err != nil {
		return Credentials{}, err
	}
	return Credentials{KeyID: id, KeySecret: secret}, nil
}

// checkKey returns a half of a key without the white space around it.
func checkKey(name, file, text string) (string, error) {
	text = strings.TrimSpace(text)
	var what string
	remedy := "put the " + name + " there and nothing else"
	switch {
	case text == "":
		what, remedy = "is empty", "put the "+name+" there"
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		what = "contains a space, line break or other character that no key has"
	case strings.ContainsAny(text[:1]+text[len(text)-1:], `"'`):
		what, remedy = "is in quotes", "leave them out, since they become part of it"
	case len(text) > maxKeyFileBytes:
		what = "is too long for a key"
	default:
		return text, nil
	}
	return "", keyError(name, file, what, remedy, nil)
}

// keyError is about a half of a key, which is in a file if one is named.
func keyError(name, file, what, remedy string, err error) error {
	if file != "" {
		name += " (" + file + ")"
	}
	return &Error{Kind: KindCredentials, Err: err, what: name + " " + what, remedy: remedy}
}

func readKeyFile(name, path string) (string, error) {
	if path == "" {
		return "", keyError(name, "no file named", "is not given", "name its file", nil)
	}
	// Opening a pipe would block for as long as nobody writes to it.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return "", keyError(name, path, "is not a regular file", "check the path", nil)
	}
	var content []byte
	if err == nil {
		content, err = readBounded(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", keyError(name, path, "does not exist", "check the path, or create the file", err)
	case errors.Is(err, fs.ErrPermission):
		return "", keyError(name, path, "is not readable", "give the user that the exporter runs as the right to read it", err)
	case err != nil:
		return "", keyError(name, path, "cannot be read", "check the path", err)
	}
	return string(content), nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One more than allowed and white space to spare: checkKey refuses it.
	return io.ReadAll(io.LimitReader(f, 2*maxKeyFileBytes))
}
