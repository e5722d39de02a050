package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// maxPart bounds a part of an object's name, in bytes.
const maxPart = 100

// objectName returns the name of a file in the archive: source, date, task, event and field. It is the same at every
// attempt. A part of the SHA-256 of field and URL keeps apart what the variants of an event name at one place.
func objectName(ev *relay.Event, p place, contentType string) string {
	sum := sha256.Sum256([]byte(p.field + "\x00" + p.url))
	file := safe(ev.ID) + "-" + safe(p.field) + "-" + hex.EncodeToString(sum[:4]) + extension(p.url, contentType)
	return strings.Join([]string{safe(ev.Source), ev.ReceivedAt.UTC().Format(time.DateOnly), safe(ev.TaskID), file}, "/")
}

// isDated reports whether a folder is that of a date, or that of a task below one.
func isDated(folder string) bool {
	isDate := func(name string) bool {
		_, err := time.Parse(time.DateOnly, name)
		return err == nil
	}
	return isDate(path.Base(folder)) || isDate(path.Base(path.Dir(folder)))
}

// safe returns s as a part of a path that every storage, file system and URL takes as it is.
func safe(s string) string {
	b := []byte(s)
	for i, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || '9' < c) && c != '-' && c != '_' && (c != '.' || i == 0) {
			b[i] = '_'
		}
	}
	if len(b) > maxPart {
		// The end of a field says more than its beginning; what differs in the part that is cut must differ all the same.
		sum := sha256.Sum256([]byte(s))
		b = append(append([]byte(hex.EncodeToString(sum[:6])), '_'), b[len(b)-maxPart+13:]...)
	}
	if len(b) == 0 {
		return "_"
	}
	return string(b)
}

// extensions are those that a file may keep from its URL. Others could make a browser run what it is only to show.
var extensions = map[string]bool{
	".mp3": true, ".wav": true, ".flac": true, ".ogg": true, ".opus": true, ".m4a": true, ".aac": true, ".aif": true, ".aiff": true,
	".mid": true, ".midi": true, ".mp4": true, ".m4v": true, ".mov": true, ".webm": true, ".mkv": true,
	".jpg": true, ".jpeg": true, ".png": true, ".webp": true, ".gif": true, ".avif": true, ".bmp": true, ".tif": true, ".tiff": true,
	".zip": true, ".glb": true, ".obj": true, ".bin": true,
}

// byType has the extensions of usual content types.
var byType = map[string]string{
	"audio/mpeg": ".mp3", "audio/mp3": ".mp3", "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/wave": ".wav", "audio/flac": ".flac",
	"audio/ogg": ".ogg", "audio/mp4": ".m4a", "audio/aac": ".aac", "audio/midi": ".mid", "video/mp4": ".mp4", "video/webm": ".webm",
	"video/quicktime": ".mov", "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif", "image/avif": ".avif",
}

// extension returns the extension of a file: that of its URL's path, or one of its content type.
func extension(rawURL, contentType string) string {
	if u, err := parseURL(rawURL); err == nil {
		if ext := strings.ToLower(path.Ext(u.Path)); extensions[ext] {
			return ext
		}
	}
	if ext := byType[contentType]; ext != "" {
		return ext
	}
	return ".bin"
}

// eventOf returns the id of the event that an object is of. ok is false for files of others, whose names begin with no
// ULID.
func eventOf(object string) (id string, ok bool) {
	id, _, ok = strings.Cut(path.Base(object), "-")
	return id, ok && len(id) == 26 && strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// CheckPrefix returns an error unless s can be Options.Prefix.
func CheckPrefix(s string) error {
	for part := range strings.SplitSeq(strings.Trim(s, "/"), "/") {
		if s != "" && part != safe(part) {
			return fmt.Errorf("expected names of letters, digits, dots, dashes and underscores, with slashes between them, got %q", s)
		}
	}
	return nil
}
