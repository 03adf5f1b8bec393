// Package exposition turns pages of Prometheus metrics into series and back: it
// parses, exposes, merges, encodes and compresses. It knows nothing of what the
// metrics are about.
//
//	bytes ─ [Parser] → [Page] of [Metrics] ─ [Expose] → [Block] ─ [Merge] → [Document] ─ [Encoder] → [Body]
//
// Every step is a pure function. What is remembered between two versions of a page is
// the result of such a function, looked up by the value of all that went in. Forgetting
// it changes no byte of any page.
//
// # What comes in
//
// The Prometheus text format and, by content type, OpenMetrics, as Prometheus's own
// parsers take them: a page whole or not at all. But an unknown type costs a family the
// type, not the page, and a page with a zero byte, which these parsers may take for its
// end, is refused.
//
// Values stay as they are written. The bounds of histograms and summaries are, for
// rules and wherever the type is lost, those that Prometheus stores: le="1.0" for
// le="1". A series that Prometheus would not store, such as one with the same label
// twice, is left out and counted. Of lines for the same series the one with the
// latest timestamp counts, or else the first.
//
// # Families
//
// HELP, TYPE and UNIT lines are read wherever they are; of contradictory ones the first
// counts. A series that a rule renames is of a family of its new name, with the type and
// HELP of its old one; a sample of a histogram or summary as long as it keeps its suffix.
// Where series meet under one name, the first type and HELP stand.
//
// A histogram or summary becomes untyped families, named like its samples and with
// its HELP, if a bound is no number, or if another family has its name or the name of
// one of its samples.
//
// # What goes out
//
// Names never depend on the format, types do. The text format is written here, since
// no library keeps values as they were written. In it, infos and state sets are
// gauges, and gauge histograms are untyped; so they are in the other formats, which
// are written by package expfmt, which knows no such types.
//
// Protobuf and OpenMetrics have no histogram or summary without sum and count, with
// counts that are not whole numbers, or with samples of different timestamps: such are
// untyped there. OpenMetrics can have histograms of buckets alone, and what it could have
// only under another name, or not at all, is of unknown type.
package exposition
