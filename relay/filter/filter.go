// Package filter evaluates `when`, the CEL expression by which a destination wants some events and not others.
package filter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

const (
	// maxCost is the most that one evaluation of a filter may cost, in CEL's own measure.
	maxCost = 100_000
	// maxTime ends loops that are cheap by that measure and slow on a body of some MiB.
	maxTime = 250 * time.Millisecond
	// checkEvery is how many steps of a loop are made between two looks at the time.
	checkEvery = 16
)

// Filter is a filter on events, in CEL.
type Filter struct {
	text    string
	program cel.Program
	loops   bool
}

// Parse compiles a filter. The expression sees code (int), msg (string), data (dyn), task_id, stage and source
// (string) and headers (a map of lowercase names to strings), and must be a bool. CEL's strings extension is there.
// msg and data are the body's fields of these names; the data of a form is all its fields, as strings, of which the last
// counts where one is repeated. A body that may be anything has neither if it is not JSON.
// Regular expressions, and what is searched for, replaced or put between strings, must be literals.
func Parse(expr string) (*Filter, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	tree, issues := env.Compile(expr)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := tree.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("the expression must be a bool, not %s", t)
	}
	// Constant parts, regular expressions above all, are made once, not at every event.
	program, err := env.Program(tree, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, err
	}
	loops := ast.MatchDescendants(ast.NavigateAST(tree.NativeRep()), ast.KindMatcher(ast.ComprehensionKind))
	return &Filter{text: expr, program: program, loops: len(loops) > 0}, nil
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("code", cel.IntType),
		cel.Variable("msg", cel.StringType),
		cel.Variable("data", cel.DynType),
		cel.Variable("task_id", cel.StringType),
		cel.Variable("stage", cel.StringType),
		cel.Variable("source", cel.StringType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.CrossTypeNumericComparisons(true), // data.duration > 30, whatever kind of number it is
		ext.Strings(),
		cel.ASTValidators(cel.ValidateRegexLiterals(), literalArguments{}),
	)
})

// literalArguments refuses calls whose work is the product of two strings unless one is written in the expression: the
// cost of a call is counted when it is over, and two strings of a body's size would take hours, or all memory, until then.
type literalArguments struct{}

func (literalArguments) Name() string { return "relay.literal_arguments" }

func (literalArguments) Validate(_ *cel.Env, _ cel.ValidatorConfig, tree *ast.AST, issues *cel.Issues) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(tree), ast.KindMatcher(ast.CallKind)) {
		call := e.AsCall()
		switch call.FunctionName() {
		case "matches", "replace", "join", "indexOf", "lastIndexOf":
		default:
			continue
		}
		args := call.Args()
		if call.FunctionName() == "matches" && !call.IsMemberFunction() {
			args = args[1:]
		}
		for _, arg := range args {
			if arg.Kind() != ast.LiteralKind {
				issues.ReportErrorAtID(arg.ID(), "the argument of %s must be a literal", call.FunctionName())
			}
		}
	}
}

// Match evaluates the filter. An error is why it has no answer: a field is missing, the result is no bool, the cost
// limit is passed. It quotes nothing of the event. It never panics.
func (f *Filter) Match(v *relay.View) (bool, error) {
	in, ok := v.Decoded.(*input)
	if !ok {
		in = newInput(v)
		v.Decoded = in
	}
	ctx := context.Background()
	if f.loops {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxTime)
		defer cancel()
	}
	result, _, err := f.program.ContextEval(ctx, in)
	if err != nil {
		return false, f.explain(err)
	}
	matched, ok := result.(types.Bool)
	if !ok {
		return false, errors.New("the result is not a bool")
	}
	return bool(matched), nil
}

// failures are the beginnings of CEL's errors, which go on with values of the event.
var failures = []struct{ cel, text string }{
	{"no such key", "the event has no such field"},
	{"no such attribute", "the event has no such field"},
	{"no such overload", "a value is of another type than the expression expects"},
	{"operation cancelled", "the cost limit is passed"},
	{"operation interrupted", "it takes too long"},
}

// explain returns why an evaluation failed. It names a field only if the expression itself does.
func (f *Filter) explain(err error) error {
	for _, failure := range failures {
		if rest, ok := strings.CutPrefix(err.Error(), failure.cel); ok {
			if _, name, _ := strings.Cut(rest, ": "); name != "" && strings.Contains(f.text, name) {
				return fmt.Errorf("%s: %s", failure.text, name)
			}
			return errors.New(failure.text)
		}
	}
	return errors.New("an operation of the expression failed")
}

// input is one event, as filters see it. The body is read once, when the first filter asks for something in it.
type input struct {
	event  *relay.Event
	format payload.Format
	// A nil interface is a variable that is not set: to use it is an error of the evaluation.
	code, headers any
	body          *body
}

type body struct{ msg, data any }

// newInput returns the input of an event, whose body a provider has read.
func newInput(v *relay.View) *input {
	ev := v.Event
	in := &input{event: ev, format: v.Format, headers: map[string]string(ev.Headers)}
	if code, err := strconv.ParseInt(ev.Code, 10, 64); err == nil {
		in.code = code
	}
	return in
}

// ResolveName returns a variable to CEL.
func (in *input) ResolveName(name string) (any, bool) {
	var v any
	switch name {
	case "code":
		v = in.code
	case "msg":
		v = in.readBody().msg
	case "data":
		v = in.readBody().data
	case "task_id":
		v = in.event.TaskID
	case "stage":
		v = in.event.Stage
	case "source":
		v = in.event.Source
	case "headers":
		v = in.headers
	}
	return v, v != nil
}

// Parent is nil: there are no other variables.
func (in *input) Parent() cel.Activation { return nil }

// anything checks a body that may be anything, in which the provider may have found nothing to read.
var anything = func() *payload.Plan {
	plan, err := payload.NewPlan(payload.Wants{Values: []string{"msg", "data"}})
	if err != nil {
		panic(err)
	}
	return plan
}()

func (in *input) readBody() *body {
	if in.body != nil {
		return in.body
	}
	in.body = &body{}
	text, err := payload.Document(in.format, in.event.Body)
	if err != nil || in.format == payload.Any && anything.ReadAny(text, new(payload.Found)) != nil {
		return in.body // gjson trusts that what it reads is JSON, and not nested too deeply
	}
	doc := gjson.ParseBytes(text)
	if msg := doc.Get("msg"); msg.Type == gjson.String {
		in.body.msg = msg.Str
	}
	data := doc
	if in.format != payload.Form { // whose fields are flat
		data = doc.Get("data")
	}
	if data.Exists() {
		in.body.data = payload.Native(data, payload.MaxDepth)
		if in.body.data == nil {
			in.body.data = types.NullValue // null is a value, unlike what is not there
		}
	}
	return in.body
}

var _ relay.Filter = (*Filter)(nil)
