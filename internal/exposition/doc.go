// Package exposition turns pages of Prometheus metrics into series and back:
// it parses, rewrites, merges, encodes and compresses. It knows nothing of what
// the metrics are about.
//
// A [Source] decodes successive versions of one upstream page into a [Page],
// whose series are divided into a [Block] per group. [Merge], or better a
// [Merger], joins blocks of any origin into a [Document], and [Encode] joins
// documents into the bytes of an answer.
//
// # What comes in
//
// The Prometheus text format and, by content type, OpenMetrics. Verdicts are
// those of Prometheus's own parsers, and so are the series; fuzz tests hold
// this package against them. There is one exception: Prometheus takes a zero
// byte outside label values and help texts for the end of the page and is
// content with what came before. Here the page is refused, as is every page
// that does not parse whole. A series that parses but that Prometheus would not
// store, such as one with the same label twice, is left out and counted, since
// it would cost the scraper the whole page.
//
// Values, bounds of buckets and quantiles included, stay as they are written.
// Labels with empty values are left out, being the same as no labels.
//
// # Families
//
// A page's HELP, TYPE and UNIT lines are read wherever they are; of several
// that contradict each other the first one counts. Families that come in pieces
// are put together.
//
// A series that a rule renames is of a family of its new name, with the type
// and HELP of its old one. The samples of a histogram or summary keep it when
// all of them are renamed alike. Where series meet under one name, the type and
// HELP of the first one stand, in the order of the page or of the merged parts,
// and of the same series the first one counts.
//
// A histogram or summary is taken apart into untyped families, named like its
// samples and with its HELP, if it can't be whole:
//
//   - some metric of it lacks its sum, its count or, a histogram, its last
//     bucket, has bounds that are no numbers or are the same number, or samples
//     that don't belong there;
//   - another family has its name, or the name of one of its samples.
//
// Duplicates among histograms and summaries are found metric by metric, not
// sample by sample: buckets of two origins never mix.
//
// # What goes out
//
// Names never depend on the format, types do. The text format has gauges for
// infos and state sets, and untyped families for gauge histograms. So has
// protobuf, in which histograms and summaries whose samples have different
// timestamps are taken apart as well. Exemplars go into protobuf and
// OpenMetrics.
//
// OpenMetrics is strict, about names and about what samples may say. A counter
// has its type there if its name ends in _total and if no other family has the
// name without that or with _created instead of it; other types reserve names
// in like manner. Families whose samples say what their type forbids, such as a
// counter below zero or a histogram whose buckets don't add up, are exposed as
// unknown.
//
// Formats for scrapers without UTF-8 names have underscores for other
// characters. Where that would make two names the same, those that had to be
// changed are written in Prometheus's reversible "values" escaping.
//
// # What it costs
//
// Between two versions of a page nearly only values change. So a line is
// compared with the one that came next on the last page, and if its series is
// the same all that is left to do is to read the number: no labels are parsed,
// no rules are asked, nothing is allocated. Of a page that has not changed at
// all the last version is returned. Texts and not hashes are compared: they lie in
// memory in the order of the page, so that it costs no more, and no value can ever
// be taken for that of another series.
//
// A new page, and one under new rules, costs the rules. They are asked about a name
// and labels only as far as the [Rewriter] says that these matter to it: once for
// all families of a service that the rules treat alike, and without the labels that
// they do not touch. [RuleScope] reads that off the rules. Gzip included, such a
// page takes about 260 ms per 100,000 series under the conditions below, where
// Prometheus's parser, the same rules for every series, and gzip take 700.
//
// What is kept per series is small. The text of a label set is kept once for
// all series of a group that have it, and is written in front of a value as it
// is. Of the page as upstream sent it nothing is kept but the values and, to know
// the lines of the next one by, the texts in front of them, each once. The layout
// of a group is shared by all versions of its block as long as no series comes or
// goes, and a Merger that sees the same layouts again need not look for
// duplicates again.
//
// Pages are compressed document by document, and put together from the pieces:
// a large one that seldom changes and a small one that always does cost only
// the small one. A page that is only scraped compressed never exists as a
// whole uncompressed.
//
// Of a text page, most is the same from one refresh to the next: names and
// labels. So for gzip a plan remembers, as a template, the symbols that deflate
// has for them, and of matches what they refer to. A page is made of them by
// adding the values and the distances, which is several times cheaper than
// searching for matches, and results in fewer bytes, since once one can search
// longer. The template is made when a plan has its second page; it takes as long
// as some eight pages without, and 50 bytes per series. If plans don't last,
// later ones wait longer for theirs. Documents that would not get smaller have
// none, nor do other formats and zstd.
//
// With three added labels and three rules, on two cores of an AMD EPYC that
// others used as well,
//
//	go test -run '^$' -bench 'Refresh/services=(100|1000)$/page' ./internal/bench
//
// says 13 to 30 ms of processor time per 100,000 series for decoding, merging,
// encoding and compressing when all values have changed: a 32nd to a 69th of what
// expfmt, sorted label pairs and compress/gzip take, the more the better the page
// fits into the processor's caches. 7 to 13 ms of them are gzip, whose pages are
// larger by a 20th than those of compress/gzip at level 6.
package exposition
