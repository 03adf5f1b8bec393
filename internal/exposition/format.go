package exposition

// Format is a format that a page can be written in. The variants that end in
// UTF8 have all names as they are. The others replace the characters of names
// that older scrapers don't take.
type Format string

// The formats.
const (
	Text            Format = "text"             // Prometheus text format 0.0.4
	TextUTF8        Format = "text-utf8"        // Prometheus text format 1.0.0
	Protobuf        Format = "protobuf"         // length-delimited io.prometheus.client.MetricFamily
	ProtobufUTF8    Format = "protobuf-utf8"    //
	OpenMetrics     Format = "openmetrics"      // OpenMetrics 1.0.0
	OpenMetricsUTF8 Format = "openmetrics-utf8" //
)

// ContentType returns the Content-Type header of pages in the format.
func (f Format) ContentType() string {
	switch f {
	case TextUTF8:
		return "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
	case Protobuf:
		return "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
	case ProtobufUTF8:
		return "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
	case OpenMetrics:
		return "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
	case OpenMetricsUTF8:
		return "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
	default:
		return "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
	}
}

// syntax is a format without the question of names.
type syntax uint8

const (
	syntaxText syntax = iota
	syntaxProtobuf
	syntaxOpenMetrics
	syntaxes
)

func (f Format) syntax() syntax {
	switch f {
	case Protobuf, ProtobufUTF8:
		return syntaxProtobuf
	case OpenMetrics, OpenMetricsUTF8:
		return syntaxOpenMetrics
	default:
		return syntaxText
	}
}

// utf8 tells whether the format has all names as they are.
func (f Format) utf8() bool {
	return f == TextUTF8 || f == ProtobufUTF8 || f == OpenMetricsUTF8
}

// Encoding is a content encoding, as HTTP names it.
type Encoding string

// The encodings.
const (
	Identity Encoding = "identity"
	Gzip     Encoding = "gzip"
	Zstd     Encoding = "zstd"
)

// encodings is how many there are.
const encodings = 3

func (e Encoding) number() int {
	switch e {
	case Gzip:
		return 1
	case Zstd:
		return 2
	default:
		return 0
	}
}
