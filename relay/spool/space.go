package spool

import "github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"

// FreeBytes implements relay.Spool.
func (s *Spool) FreeBytes() int64 { return sqlitefile.FreeBytes(s.options.Path) }
