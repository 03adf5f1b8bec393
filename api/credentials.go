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
	return &uncached{func() (Credentials, error) {
		return newCredentials(
			keyPart{"API key id", "", keyID},
			keyPart{"API key secret", "", secret},
		)
	}}
}

// FileCredentials returns a source that reads the pair from two files, less the
// white space around it. The files are read for every request, so that a rotated
// key is used by the next one, whichever way the file was replaced; in return the
// files must be regular ones. A file that is missing, unreadable, empty or no key
// is reported by Credentials as an [*Error] of kind [KindCredentials].
func FileCredentials(keyIDFile, secretFile string) CredentialsSource {
	return &uncached{func() (Credentials, error) {
		id, err := readKeyFile("API key id", keyIDFile)
		if err != nil {
			return Credentials{}, err
		}
		secret, err := readKeyFile("API key secret", secretFile)
		if err != nil {
			return Credentials{}, err
		}
		return newCredentials(id, secret)
	}}
}

// keyPart is a half of the pair: what it is called, its file if it has one, its text.
type keyPart struct{ name, source, text string }

func newCredentials(id, secret keyPart) (Credentials, error) {
	for _, part := range []*keyPart{&id, &secret} {
		part.text = strings.TrimSpace(part.text)
		switch {
		case part.text == "":
			return Credentials{}, part.fault("is empty", "put the "+part.name+" there", nil)
		case strings.ContainsFunc(part.text, func(r rune) bool { return r <= ' ' || r > '~' }):
			return Credentials{}, part.fault("contains a space, line break or other character that no key has",
				"put the "+part.name+" there and nothing else", nil)
		case strings.ContainsAny(part.text[:1]+part.text[len(part.text)-1:], `"'`):
			return Credentials{}, part.fault("is in quotes", "leave them out, since they become part of it", nil)
		case len(part.text) > maxKeyFileBytes:
			return Credentials{}, part.fault("is too long for a key", "put the "+part.name+" there and nothing else", nil)
		}
	}
	if strings.Contains(id.text, ":") {
		// Basic auth ends the user name at the first colon.
		return Credentials{}, id.fault("contains a colon, which no key id has",
			"put the API key id there, without the secret", nil)
	}
	return Credentials{KeyID: id.text, KeySecret: secret.text}, nil
}

func (p keyPart) fault(what, remedy string, err error) error {
	name := p.name
	if p.source != "" {
		name += " (" + p.source + ")"
	}
	return &Error{Kind: KindCredentials, Err: err, what: name + " " + what, remedy: remedy}
}

func readKeyFile(name, path string) (keyPart, error) {
	part := keyPart{name: name, source: path}
	if path == "" {
		part.source = "no file named"
		return part, part.fault("is not given", "name its file", nil)
	}
	// Opening a pipe would block for as long as nobody writes to it.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return part, part.fault("is not a regular file", "check the path", nil)
	}
	var content []byte
	if err == nil {
		content, err = readBounded(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return part, part.fault("does not exist", "check the path, or create the file", err)
	case errors.Is(err, fs.ErrPermission):
		return part, part.fault("is not readable", "give the user that the exporter runs as the right to read it", err)
	case err != nil:
		return part, part.fault("cannot be read", "check the path", err)
	}
	part.text = string(content)
	return part, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One more than allowed and white space to spare: newCredentials refuses it.
	return io.ReadAll(io.LimitReader(f, 2*maxKeyFileBytes))
}
