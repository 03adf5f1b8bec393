package exposition

import (
	"sync"
	"sync/atomic"
)

// templateKeeper has a plan's template as long as it is good for something.
// Making one takes as long as compressing several pages without: no plan has
// one for its first document, and later ones only if plans last for a while.
type templateKeeper struct {
	ready atomic.Pointer[deflateTemplate]
	uses  atomic.Int64 // pages that were compressed with a template

	mu sync.Mutex // held while the template is made
	// without is how many pages were compressed without a template, and size
	// the size of the last one.
	without int
	size    int
	// patience is how many pages there have to be.
	patience int
	hopeless bool // a template makes pages larger
	// reach is what is put on the length of each value between a match and
	// what it refers to. Where values get longer than that, matches get out of
	// reach, and the template is good for nothing.
	reach int
}

const (
	// slack is how much larger than the page that a template was made for pages
	// can get before it is made anew: by a 16th.
	slack = 16
	// paysOff is after how many pages a template has saved what it cost.
	paysOff = 10
	// maxPatience is how many pages a plan that follows ones that did not last
	// is given.
	maxPatience = 16
)

// newTemplateKeeper returns the keeper of a plan that follows another one, which
// may be nil.
func newTemplateKeeper(last *templateKeeper) *templateKeeper {
	k := &templateKeeper{patience: 1, reach: 1}
	if last == nil {
		return k
	}
	if !last.mu.TryLock() {
		return k // it is being made right now
	}
	defer last.mu.Unlock()
	switch uses := last.uses.Load(); {
	case uses == 0:
		k.patience = last.patience
	case uses < paysOff:
		k.patience = min(2*last.patience, maxPatience)
	}
	return k
}

// compress returns a document's deflate blocks, or nil if there is no template
// for it. In this case the caller makes them, and says how it went.
func (k *templateKeeper) compress(d *Document) *encoded {
	t := k.ready.Load()
	if t == nil {
		if t = k.make(d); t == nil {
			return nil
		}
	}
	k.uses.Add(1)
	enc := t.compress(d)
	if enc == nil || len(enc.chunks[0]) > t.size+t.size/slack+256 {
		k.discard(t, enc == nil)
	}
	return enc
}

// compressed says what size a document has without a template.
func (k *templateKeeper) compressed(size int) {
	// Whoever holds the lock knows enough.
	if k.mu.TryLock() {
		k.without++
		k.size = size
		k.mu.Unlock()
	}
}

func (k *templateKeeper) discard(t *deflateTemplate, outOfReach bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready.CompareAndSwap(t, nil) {
		return
	}
	k.without = 0
	if outOfReach {
		k.reach *= 4
	}
}

// make makes the template. It returns nil if it is not worth while. Others that
// want one meanwhile do without.
func (k *templateKeeper) make(d *Document) *deflateTemplate {
	if !k.mu.TryLock() {
		return nil
	}
	defer k.mu.Unlock()
	if t := k.ready.Load(); t != nil {
		return t
	}
	if k.without < k.patience || k.hopeless {
		return nil
	}
	t := newDeflateTemplate(d, k.reach)
	if t == nil || t.size > k.size {
		k.hopeless = true
		return nil
	}
	k.ready.Store(t)
	return t
}
