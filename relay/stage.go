package relay

import (
	"strconv"
	"strings"
	"unicode"
)

// Ending classifies events by what they say about the end of their task.
type Ending int

const (
	NotEnding     Ending = iota // nothing: the event is not final, or its source recovers nothing
	EndingSuccess               // the task has a result
	EndingFailure               // the task ended without one
	EndingOther                 // the details say that the task has ended, and the stage alone would not
)

// EndingOf returns what an event of a source says about the end of its task.
func EndingOf(src *Source, e *Event) Ending {
	switch {
	case src.Recover == nil:
		return NotEnding
	case !FinalStage(e.Stage):
		if e.Origin == OriginRecovered {
			return EndingOther
		}
		return NotEnding
	case failed(e.Stage, e.Code):
		return EndingFailure
	}
	return EndingSuccess
}

// progress are the words of stages that are not the last of their task, failures those of a task that has none to come.
// A stage with words of both is a failure, like processing_validate_fail.
var (
	progress = words("text first processing process wait waiting queue queued queuing queueing generating pending running" +
		" starting started submitted created submitting progress dreaming partial")
	failures = words("error errors fail fails failed failure canceled cancelled cancel rejected aborted timeout")
)

func words(list string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		set[w] = true
	}
	return set
}

// FinalStage reports whether a callback of this stage is the last of its task. One without a stage is, and so is one of a
// stage that is not known: a provider names few states of a task that still runs, and many of one that has ended.
func FinalStage(stage string) bool {
	return hasWord(stage, failures) || !hasWord(stage, progress)
}

func hasWord(stage string, set map[string]bool) bool {
	for w := range strings.FieldsFuncSeq(strings.ToLower(stage), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if set[w] {
			return true
		}
	}
	return false
}

// failed reports whether a task's final callback says that there is no result. A code that is no number says nothing.
func failed(stage, code string) bool {
	n, err := strconv.Atoi(code)
	return hasWord(stage, failures) || err == nil && n != 0 && n/100 != 2
}
