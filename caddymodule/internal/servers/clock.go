package servers

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SetClock sets the wall clock that the process reads apart from the machine's, by whole seconds; its monotonic clock goes on.
// The process is suspended for a moment, and must not be by anyone else, or traced.
//
// A static binary calls no library that could be replaced, and a time namespace has no wall clock of its own. What all
// programs have in common is the kernel's code for it that is mapped into each of them. That is replaced in this one by
// code that asks the kernel, and adds to its answer.
func (p *Process) SetClock(by time.Duration) error {
	pid := p.Cmd.Process.Pid
	if runtime.GOARCH != "amd64" {
		return errors.New("clocks of processes can be set on amd64 alone")
	}
	if by.Abs() > math.MaxInt32*time.Second {
		return fmt.Errorf("no clock can be set by %s", by)
	}
	image, err := findClock(pid)
	if err != nil {
		return err
	}
	defer image.memory.Close()
	codes, err := image.codes(int32(by / time.Second))
	if err != nil {
		return err
	}
	if err := image.suspend(); err != nil {
		return err
	}
	for at, code := range codes {
		if _, failed := image.memory.WriteAt(code, at); failed != nil {
			err = fmt.Errorf("the clock of process %d: %w", pid, failed)
		}
	}
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}

// kernelCode is the code of the kernel that is mapped into a process, its vDSO.
type kernelCode struct {
	pid      int
	from, to int64
	memory   *os.File // of the process
}

// findClock finds the kernel's code in a process. The caller closes its memory.
func findClock(pid int) (*kernelCode, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		c := &kernelCode{pid: pid}
		if _, err := fmt.Sscanf(line, "%x-%x", &c.from, &c.to); err != nil {
			return nil, err
		}
		c.memory, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
		return c, err
	}
	return nil, fmt.Errorf("process %d has no vDSO", pid)
}

// A function's code, but for the number of seconds, and what follows that.
var clockCodes = map[string][2]string{
	// mov $228,%eax; syscall; test %edi,%edi; jne ret; addq $seconds,(%rsi); ret
	"__vdso_clock_gettime": {"\xb8\xe4\x00\x00\x00\x0f\x05\x85\xff\x75\x07\x48\x81\x06", "\xc3"},
	// mov $96,%eax; syscall; test %rdi,%rdi; je ret; addq $seconds,(%rdi); ret
	"__vdso_gettimeofday": {"\xb8\x60\x00\x00\x00\x0f\x05\x48\x85\xff\x74\x07\x48\x81\x07", "\xc3"},
	// mov $201,%eax; syscall; add $seconds,%rax; test %rdi,%rdi; je ret; mov %rax,(%rdi); ret
	"__vdso_time": {"\xb8\xc9\x00\x00\x00\x0f\x05\x48\x05", "\x48\x85\xff\x74\x03\x48\x89\x07\xc3"},
}

// codes returns the code of the functions that read the wall clock, by address.
func (c *kernelCode) codes(seconds int32) (map[int64][]byte, error) {
	image := make([]byte, c.to-c.from)
	if _, err := c.memory.ReadAt(image, c.from); err != nil {
		return nil, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	codes := map[int64][]byte{}
	for name, code := range clockCodes {
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name })
		text := append(binary.LittleEndian.AppendUint32([]byte(code[0]), uint32(seconds)), code[1]...)
		if i < 0 || symbols[i].Size < uint64(len(text)) {
			return nil, fmt.Errorf("the vDSO has no %s that could be replaced", name)
		}
		codes[c.from+int64(symbols[i].Value)] = text
	}
	return codes, nil
}

// suspend suspends the process while none of its threads is in the kernel's code.
func (c *kernelCode) suspend() error {
	const tries = 1000
	for range tries {
		if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil {
			return err
		}
		outside, err := c.outside()
		if err == nil && outside {
			return nil
		}
		if err := errors.Join(err, syscall.Kill(c.pid, syscall.SIGCONT)); err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d is always reading its clock", c.pid)
}

// outside waits until all threads are suspended, and reports whether none of them is in the kernel's code.
func (c *kernelCode) outside() (bool, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", c.pid))
	if err != nil {
		return false, err
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, task := range tasks {
		at, err := c.position(task, deadline)
		if err != nil || at >= c.from && at < c.to {
			return false, err
		}
	}
	return true, nil
}

// position waits until a thread is suspended, and returns the address where it is: 0 if it has ended.
func (c *kernelCode) position(task string, deadline time.Time) (int64, error) {
	for time.Now().Before(deadline) {
		status, _ := os.ReadFile(filepath.Join(task, "stat"))
		if len(status) == 0 { // the thread has ended
			return 0, nil
		}
		if _, state, _ := strings.Cut(string(status), ") "); !strings.HasPrefix(state, "T") {
			runtime.Gosched()
			continue
		}
		text, err := os.ReadFile(filepath.Join(task, "syscall"))
		if err != nil {
			return 0, err
		}
		last := strings.TrimSpace(string(text))
		at, err := strconv.ParseInt(last[strings.LastIndexByte(last, ' ')+1:], 0, 64)
		if err != nil {
			return 0, fmt.Errorf("where a thread of process %d is: %q", c.pid, text)
		}
		return at, nil
	}
	return 0, fmt.Errorf("process %d cannot be suspended", c.pid)
}
