package relay

import "testing"

func TestFinalStage(t *testing.T) {
	for stage, final := range map[string]bool{
		"": true, "complete": true, "error": true, "success": true, "SUCCESS": true, "fail": true, "failed": true, "succeeded": true,
		"text": false, "first": false, "TEXT_SUCCESS": false, "FIRST_SUCCESS": false, "PENDING": false, "pending": false,
		"processing_validate": false, "processing_validate_fail": true, "wait_processing": false, "wait_validating": false,
		"wait": false, "waiting": false, "queueing": false, "queuing": false, "generating": false, "processing": false,
		"CREATE_TASK_FAILED": true, "GENERATE_AUDIO_FAILED": true, "SENSITIVE_WORD_ERROR": true, "CALLBACK_EXCEPTION": true,
		"IN_QUEUE": false, "IN_PROGRESS": false, "starting": false, "canceled": true, "OK": true, "ERROR": true,
	} {
		if FinalStage(stage) != final {
			t.Errorf("stage %q: final %v", stage, !final)
		}
	}
}

func TestEndingOf(t *testing.T) {
	recovering, plain := &Source{Recover: &Recovery{}}, &Source{}
	for _, tc := range []struct {
		src   *Source
		event Event
		want  Ending
	}{
		{plain, Event{Stage: "complete", Code: "200"}, NotEnding},
		{recovering, Event{Stage: "complete", Code: "200"}, EndingSuccess},
		{recovering, Event{Code: "200"}, EndingSuccess},
		{recovering, Event{}, EndingSuccess},
		{recovering, Event{Stage: "complete", Code: "400"}, EndingFailure}, // kie's lyrics
		{recovering, Event{Code: "501"}, EndingFailure},
		{recovering, Event{Stage: "fail", Code: "200"}, EndingFailure},
		{recovering, Event{Stage: "processing_validate_fail", Code: "200"}, EndingFailure},
		{recovering, Event{Stage: "first", Code: "200"}, NotEnding},
		{recovering, Event{Stage: "wait_validating", Code: "200", Origin: OriginRecovered}, EndingOther},
		{recovering, Event{Stage: "success", Code: "200", Origin: OriginRecovered}, EndingSuccess},
	} {
		if got := EndingOf(tc.src, &tc.event); got != tc.want {
			t.Errorf("stage %q, code %q, %s: %v, want %v", tc.event.Stage, tc.event.Code, tc.event.Origin, got, tc.want)
		}
	}
}
