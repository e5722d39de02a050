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
	//go:embed scripts/prelude.lua
	prelude string
	//go:embed scripts/accept.lua
	acceptLua string
	//go:embed scripts/settle.lua
	settleLua string
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

// acceptedBefore is the result of an accept that an earlier try has stored.
const acceptedBefore = relay.Unexpected + 1

// constants begins every script of a source: what Go and Lua call by the same letter or number.
var constants = fmt.Sprintf(`local PENDING, EXPIRED, LEASED, DELIVERED, DEAD = %q, %q, %q, %q, %q
local ACCEPTED, DUPLICATE, CONFLICT, UNKEPT, REPLAYED, ACCEPTED_BEFORE = %d, %d, %d, %d, %d, %d
local OUTCOME_DELIVERED, OUTCOME_RETRY, OUTCOME_DEAD = '%d', '%d', '%d'
local MAX_TOUCHED, MAX_VARIANTS, MAX_FILES, HELD, PROOF_HEADER, CONFLICT_HEADER, CONFLICT_HEADER_PATTERN = %d, %d, %d, %d, %q, %q, %q
`,
	statusPending, statusExpired, statusLeased, statusDelivered, statusDead,
	relay.Accepted, relay.Duplicate, relay.Conflict, relay.Unkept, relay.Replayed, acceptedBefore,
	relay.OutcomeDelivered, relay.OutcomeRetry, relay.OutcomeDead,
	relay.MaxTouched, relay.MaxVariants, relay.MaxFiles, int64(held), relay.ProofHeader, relay.ConflictHeader, strings.ReplaceAll(relay.ConflictHeader, "-", "%-"),
)

// script is a Lua script with the name that Redis gives it.
type script struct{ name, text, sha string }

func newScript(name, text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{name, text, hex.EncodeToString(sum[:])}
}

// ofSource makes a script that works on the keys of one source.
func ofSource(name, text string) *script { return newScript(name, constants+prelude+text) }

var (
	acceptScript    = ofSource("accept", acceptLua+"return accept_all(accept)\n")
	settleScript    = ofSource("settle", settleLua)
	leaseScript     = ofSource("lease", leaseLua)
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
