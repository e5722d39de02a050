package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// terminal is where a command reads and writes.
type terminal struct {
	in  io.Reader
	out io.Writer
	err io.Writer

	width    int  // of out in characters; 0, which is no limit, where it is no terminal
	askable  bool // whether somebody can answer a question
	progress bool // whether err shows a line that changes
}

func newTerminal(cmd *cobra.Command) terminal {
	t := terminal{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
	t.width = widthOf(t.out)
	t.progress = isTerminal(t.err)
	t.askable = isTerminal(t.in) && t.progress
	return t
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// widthOf returns how many characters a line of a terminal has: COLUMNS, where it is set, or what the terminal says.
func widthOf(stream any) int {
	if !isTerminal(stream) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	width, _, err := term.GetSize(int(stream.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}

// printf writes a line to out.
func (t *terminal) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(t.out, format+"\n", args...)
	return err
}

// json writes an answer for scripts: as copyJSON does, on a line of its own, and indented where somebody looks at it.
func (t *terminal) json(answer json.RawMessage) error {
	answer = bytes.TrimSpace(answer)
	if t.width > 0 {
		var indented bytes.Buffer
		if err := json.Indent(&indented, answer, "", "  "); err != nil {
			return err
		}
		answer = indented.Bytes()
	}
	return copyJSON(t.out, bytes.NewReader(append(answer, '\n')))
}

// errNotConfirmed is the answer no.
var errNotConfirmed = errors.New("nothing was changed")

// confirm asks a question, and returns nil if the answer is yes.
func (t *terminal) confirm(question string) error {
	if !t.askable {
		return fmt.Errorf("%s Nobody can answer here: repeat the command with --yes", question)
	}
	if _, err := fmt.Fprintf(t.err, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(t.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}

// note writes a line to err: what is not the answer itself stays out of pipes and files.
func (t *terminal) note(format string, args ...any) error {
	_, err := fmt.Fprintf(t.err, format+"\n", args...)
	return err
}
