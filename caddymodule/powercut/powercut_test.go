package powercut

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// recording holds all that a gateway did to its disk and told the world.
type recording struct {
	t       *testing.T
	before  string // a copy of the disk
	disk    string // its path
	moments []moment
	// ignore leaves out syncs of some files, so that a test can show what comes of it.
	ignore func(name string, folder bool) bool
}

// recordingOf returns what a gateway has done. It checks that nothing escaped it: the disk that follows from the calls must
// be the one that is there, and all answers that the sender got must be among them.
func recordingOf(g *gateway, l *load) *recording {
	g.t.Helper()
	r := &recording{t: g.t, before: g.before, disk: g.data(), moments: g.moments}
	d, o := r.replay(nil)
	copied := g.t.TempDir()
	if err := d.leave(&fate{random: rand.New(rand.NewPCG(0, 0)), keep: 1}, copied); err != nil {
		g.t.Fatal(err)
	}
	for _, pair := range [][2]string{{copied, r.disk}, {r.disk, copied}} {
		if err := sameFiles(pair[0], pair[1]); err != nil {
			g.t.Fatal("the recording is incomplete: ", err)
		}
	}
	for id := range l.answered {
		if !o.answered[id] {
			g.t.Fatalf("the recording is incomplete: it has no answer with event %s", id)
		}
	}
	return r
}

// sameFiles checks that all files of a folder are in another one.
func sameFiles(folder, other string) error {
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || isIndex(path) {
			return err
		}
		name, _ := filepath.Rel(folder, path)
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(other, name))
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s has other content", name)
		}
		return err
	})
}

// replay follows the moments, and calls before each of them.
func (r *recording) replay(before func(number int, d *disk, o *observed)) (*disk, *observed) {
	r.t.Helper()
	d, err := newDisk(r.before, r.disk)
	if err != nil {
		r.t.Fatal(err)
	}
	d.ignore = r.ignore
	o := newObserved()
	for number, m := range r.moments {
		if before != nil {
			before(number, d, o)
		}
		o.see(m)
		if err := d.apply(m); err != nil {
			r.t.Fatal(err)
		}
	}
	return d, o
}

// check cuts the power and reports what is lost.
func (r *recording) check(times int, judge verdict) {
	r.t.Helper()
	begin, n := time.Now(), cuts(r.t, times)
	for _, loss := range r.cut(n, judge) {
		r.t.Error(loss)
	}
	r.t.Logf("%d cuts in %d moments: %s", n, len(r.moments), time.Since(begin).Round(time.Millisecond))
}

// cut cuts the power at random instants, as often as it is told, and returns what the verdicts found.
func (r *recording) cut(times int, judge verdict) (losses []error) {
	r.t.Helper()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	instants := r.instants(random, times)
	r.replay(func(number int, d *disk, o *observed) {
		for ; len(instants) > 0 && instants[0] == number; instants = instants[1:] {
			f := newFate(random)
			if err := cutNow(d, f, o, judge); err != nil {
				losses = append(losses, fmt.Errorf("cut before %s, seed %d, %s: %w", r.moments[number], seed, f, err))
			}
		}
	})
	return losses
}

// cutNow judges what a cut leaves. The folder stays if something is wrong with it.
func cutNow(d *disk, f *fate, o *observed, judge verdict) error {
	folder, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return err
	}
	if err := d.leave(f, folder); err != nil {
		return err
	}
	if err := judge(folder, o); err != nil {
		return fmt.Errorf("%w (what is left is in %s)", err, folder)
	}
	return os.RemoveAll(folder)
}

// verdict looks at what is left on the disk, and returns what is missing of what was promised.
type verdict func(folder string, o *observed) error

// instants chooses moments, in order. Half of them are anywhere, half beside a sync or a change of names.
func (r *recording) instants(random *rand.Rand, times int) []int {
	var beside []int
	for number, m := range r.moments {
		switch m.name {
		case "fsync", "fdatasync", "ftruncate", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat":
			beside = append(beside, number)
			if number+1 < len(r.moments) {
				beside = append(beside, number+1)
			}
		}
	}
	instants := make([]int, times)
	for i := range instants {
		if instants[i] = random.IntN(len(r.moments)); i%2 == 0 {
			instants[i] = beside[random.IntN(len(beside))]
		}
	}
	slices.Sort(instants)
	return instants
}
