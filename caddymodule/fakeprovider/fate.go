package fakeprovider

import (
	"math/rand/v2"
	"time"
)

// Fate decides what becomes of a task. A submission sets its own in a field "fate", an object with the names below in lower case.
type Fate struct {
	// Refuse is a code with which the submission is refused, in an answer of HTTP status 200: 451, 429, 500.
	Refuse int `json:"refuse"`
	// Code is that of a failure: 400, 451, 501, 531. Zero: a success.
	Code int `json:"code"`
	// Never is set if nobody is called back. The details have the result all the same.
	Never bool `json:"never"`
	// Late is how many seconds after its result a task is called back.
	Late float64 `json:"late"`
	// Repeat is how often a callback is sent again after it was answered.
	Repeat int `json:"repeat"`
	// Asked has the codes of the first answers of the details, like 429 and 455.
	Asked []int `json:"asked"`
	// Fault is that of all files of the task.
	Fault Fault `json:"fault"`
}

// Fault names what is wrong with a file.
type Fault string

// Faults of files.
const (
	FaultNone     Fault = ""
	FaultMissing  Fault = "missing"  // 404
	FaultText     Fault = "text"     // a page instead of a file
	FaultRedirect Fault = "redirect" // to a link-local address
	FaultStall    Fault = "stall"    // half of it, and then nothing
	FaultShort    Fault = "short"    // less than was announced, at every request
	FaultCut      Fault = "cut"      // the first answer ends in the middle; others are right
	FaultChanged  Fault = "changed"  // as cut, and after it the file is another one
	FaultEndless  Fault = "endless"  // of no announced length, and without an end
)

// Odds are the shares of tasks, from 0 to 1, that end otherwise than in one callback in time. A task has at most one of
// these fates.
type Odds struct {
	Never, Twice, Late, Fail float64
	// LateBy is how late a late one is.
	LateBy time.Duration
}

// Fates returns an Options.Fate that draws by the odds.
func (o Odds) Fates(seed uint64) func(n uint64) Fate {
	return func(n uint64) Fate {
		draw := rand.New(rand.NewPCG(seed, n)).Float64()
		for _, share := range []struct {
			odds float64
			fate Fate
		}{
			{o.Never, Fate{Never: true}},
			{o.Twice, Fate{Repeat: 1}},
			{o.Late, Fate{Late: o.LateBy.Seconds()}},
			{o.Fail, Fate{Code: 501}},
		} {
			if draw < share.odds {
				return share.fate
			}
			draw -= share.odds
		}
		return Fate{}
	}
}
