package relay

import (
	"context"
	"fmt"
)

// ArchiveName is the reserved name of the destination that archives a source's files.
const ArchiveName = "archive"

// Archiver stores the files that an event names. A destination that has one is no webhook. It is safe for concurrent use.
type Archiver interface {
	// Archive fetches the files of an event, and stores them. done are those that an earlier attempt has stored already, which
	// are neither fetched nor returned again. It returns what it stored, also beside an error, and the error of the files that
	// it could not store: one sentence, without the URLs. It may be an *ArchiveError.
	Archive(ctx context.Context, ev *Event, done []File) (stored []File, err error)
	// Rewrite returns the body of an event with the URLs of its archived files replaced by those in the archive, where the
	// archive has a public URL. All else stays byte for byte.
	Rewrite(ev *Event, files []File) []byte
}

// FileExpirer is implemented by archivers that delete files by their age.
type FileExpirer interface {
	// Expire deletes what is past its age. It asks delivered about the event of a file, and leaves the file unless nothing
	// of its event is yet to be delivered.
	Expire(ctx context.Context, delivered func(ctx context.Context, eventID string) (bool, error)) error
}

// File is a file of an event in the archive.
type File struct {
	Field       string `json:"field"`  // where the body names it, as a gjson path
	URL         string `json:"url"`    // as the body has it
	Object      string `json:"object"` // its name in the archive
	ContentType string `json:"content_type,omitempty"`
	Size        int64  `json:"size"`   // bytes
	SHA256      string `json:"sha256"` // hex
}

// ArchiveError is why files of an event are not in the archive.
type ArchiveError struct {
	Failed int   // files
	Bytes  int64 // that were fetched of them in vain
	// Reason is of the first of them: its field and what went wrong, in one sentence without its URL.
	Reason string
	Others int // files that failed beside the one of Reason
	// Status is the one by which the server of that file refused it; 0 where it did not.
	Status int
	// Storage reports that it was the archive itself that failed, and not where the files come from.
	Storage bool
	// Final reports that none of them is worth another try: they are not allowed, or too large.
	Final bool
	// Panic is the error of a file for which the archive itself panicked, to be logged with its stack; nil if it did not.
	Panic error
}

func (e *ArchiveError) Error() string {
	if e.Others == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s; and %d more failed", e.Reason, e.Others)
}
