package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

var (
	//go:embed scripts/clock.lua
	clockLua string
	//go:embed scripts/prelude.lua
	prelude string
	//go:embed scripts/accept_plain.lua
	acceptPlainLua string
	//go:embed scripts/settle_packed.lua
	settlePackedLua string
	//go:embed scripts/accept.lua
	acceptLua string
	//go:embed scripts/settle.lua
	settleLua string
	//go:embed scripts/lease_plain.lua
	leasePlainLua string
	//go:embed scripts/lease.lua
	leaseLua string
	//go:embed scripts/replay.lua
	replayLua string
	//go:embed scripts/replay_all.lua
	replayAllLua string
	//go:embed scripts/reassign.lua
	reassignLua string
	//go:embed scripts/redrive.lua
	redriveLua string
	//go:embed scripts/discard.lua
	discardLua string
	//go:embed scripts/expire.lua
	expireLua string
	//go:embed scripts/purge.lua
	purgeLua string
	//go:embed scripts/forget.lua
	forgetLua string
	//go:embed scripts/pause.lua
	pauseLua string
	//go:embed scripts/watch.lua
	watchLua string
	//go:embed scripts/beat.lua
	beatLua string
)

// A delivery's status, as its record begins with.
const (
	statusPending   = "P"
	statusExpired   = "E" // pending, after its lease has expired
	statusLeased    = "L"
	statusDelivered = "D"
	statusDead      = "X"
)

// A delivery's letter in its event's record.
const (
	letterLeased    = "L"
	letterDelivered = "D"
	letterWaiting   = "W" // its first lease is yet to come, or not over
	letterUnpacked  = "U" // its record is among those of its destination, if it was not discarded
)

// nobody names, in an event's record, a destination whose delivery was handed to another one.
const nobody = "-"

// Flags of a settle.
const (
	settleUsed  = 1
	settlePlain = 2
)

// layoutName is left where an earlier layout had the clock of a partition.
const layoutName = "layout 2: run a newer gateway"

// acceptedBefore is the result of an accept that an earlier try has stored.
const acceptedBefore = relay.Unexpected + 1

// constants begins every script of a source: what Go and Lua call by the same letter or number.
var constants = fmt.Sprintf(`local PENDING, EXPIRED, LEASED, DELIVERED, DEAD = %q, %q, %q, %q, %q
local ACCEPTED, DUPLICATE, CONFLICT, UNKEPT, REPLAYED, ACCEPTED_BEFORE = %d, %d, %d, %d, %d, %d
local OUTCOME_DELIVERED, OUTCOME_RETRY, OUTCOME_DEAD = '%d', '%d', '%d'
local LETTER_LEASED, LETTER_DELIVERED, LETTER_WAITING, LETTER_UNPACKED, NOBODY, PLAIN, FIRST_LEASES, SOURCE_KEYS, LAYOUT = %q, %q, %q, %q, %q, %d, %d, %d, %q
local MAX_TOUCHED, MAX_VARIANTS, MAX_FILES, HELD, PROOF_HEADER_PATTERN, CONFLICT_HEADER, CONFLICT_HEADER_PATTERN = %d, %d, %d, %d, %q, %q, %q
`,
	statusPending, statusExpired, statusLeased, statusDelivered, statusDead,
	relay.Accepted, relay.Duplicate, relay.Conflict, relay.Unkept, relay.Replayed, acceptedBefore,
	relay.OutcomeDelivered, relay.OutcomeRetry, relay.OutcomeDead,
	letterLeased, letterDelivered, letterWaiting, letterUnpacked, nobody, settlePlain, firstLeases, blockKeys, layoutName,
	relay.MaxTouched, relay.MaxVariants, relay.MaxFiles, int64(held), strings.ReplaceAll(relay.ProofHeader, "-", "%-"), relay.ConflictHeader, strings.ReplaceAll(relay.ConflictHeader, "-", "%-"),
)

// script is a Lua script with the name that Redis gives it.
type script struct{ name, text, sha string }

func newScript(name, text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{name, text, hex.EncodeToString(sum[:])}
}

// ofSource returns a script that works on the keys of one source.
func ofSource(name, text string) *script { return newScript(name, constants+clockLua+prelude+text) }

// withCommon returns a script that does what is common before the prelude, which would take a third of the time.
func withCommon(name, common, rest string) *script {
	return newScript(name, constants+clockLua+common+prelude+rest)
}

var (
	acceptScript    = withCommon("accept", acceptPlainLua, acceptLua+"return accept_all(accept)\n")
	settleScript    = withCommon("settle", settlePackedLua, settleLua)
	leaseScript     = withCommon("lease", leasePlainLua, leaseLua)
	replayScript    = ofSource("replay", replayLua)
	replayAllScript = ofSource("replay_all", replayAllLua)
	reassignScript  = ofSource("reassign", reassignLua)
	redriveScript   = ofSource("redrive", redriveLua)
	discardScript   = ofSource("discard", discardLua)
	expireScript    = ofSource("expire", expireLua)
	purgeScript     = ofSource("purge", purgeLua)
	forgetScript    = ofSource("forget", forgetLua)
	pauseScript     = ofSource("pause", pauseLua)
	beatScript      = newScript("beat", beatLua)
)
