package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
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

// script is a Lua script with the name that Redis gives it.
type script struct{ text, sha string }

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text, hex.EncodeToString(sum[:])}
}

var (
	acceptScript  = newScript(prelude + acceptLua)
	settleScript  = newScript(prelude + settleLua)
	leaseScript   = newScript(prelude + leaseLua)
	replayScript  = newScript(prelude + replayLua)
	redriveScript = newScript(prelude + redriveLua)
	discardScript = newScript(prelude + discardLua)
	expireScript  = newScript(prelude + expireLua)
	purgeScript   = newScript(prelude + purgeLua)
	forgetScript  = newScript(prelude + forgetLua)
	pauseScript   = newScript(prelude + pauseLua)
	watchScript   = newScript(prelude + watchLua)
	beatScript    = newScript(beatLua) // of no source
)
