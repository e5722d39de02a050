package sqlitestore

import (
	"strconv"
	"strings"
	"testing"
)

// What a statement looks at must not grow with what the store keeps.
func TestPlans(t *testing.T) {
	s := openTemporary(t)
	for name, tc := range map[string]struct{ query, plan string }{
		"ready":                     {"SELECT " + leaseColumns + "WHERE destination = +? AND state = 0 AND event > ? ORDER BY event", "PRIMARY KEY (destination=? AND event>?)"},
		"untried":                   {"SELECT " + leaseColumns + "WHERE destination = +? AND state = 1 AND tries = 0 AND due < ? ORDER BY due, event", "delivery_untried (destination=? AND due<?)"},
		"waiting":                   {"SELECT " + leaseColumns + "WHERE destination = +? AND state = 1 AND due <= ? ORDER BY due, event", "delivery_waiting (destination=? AND due<?)"},
		"any ready":                 {"SELECT event " + fromReady + " LIMIT ?2", "PRIMARY KEY (destination=? AND event>?)"},
		"oldest ready":              {"SELECT event " + fromReady + " ORDER BY event LIMIT 1", "PRIMARY KEY (destination=? AND event>?)"},
		"any waiting":               {"SELECT event " + fromWaiting + " LIMIT ?2", "delivery_old (destination=? AND state=?)"},
		"oldest waiting":            {"SELECT min(event) " + fromWaiting + " AND since = 0", "delivery_old (destination=? AND state=? AND since=?)"},
		"oldest replayed":           {"SELECT min(since) " + fromWaiting + " AND since > 0", "delivery_old (destination=? AND state=? AND since>?)"},
		"old ready":                 {"SELECT event " + fromReady + oldEvent + " LIMIT ?3", "PRIMARY KEY (destination=? AND event>? AND event<?)"},
		"old waiting":               {"SELECT event " + fromWaiting + oldEvent + " LIMIT ?3", "delivery_old (destination=? AND state=? AND since=? AND event<?)"},
		"old replayed":              {"SELECT event " + fromBlocked + oldReplay + " LIMIT ?3", "delivery_old (destination=? AND state=? AND since>? AND since<?)"},
		"any blocked":               {"SELECT event " + fromBlocked + " LIMIT ?2", "delivery_old (destination=? AND state=?)"},
		"of an event":               {"SELECT d.state" + ofEvent, "PRIMARY KEY (destination=? AND event=?)"},
		"chain":                     {oldestOf, "delivery_chain (destination=? AND chain=? AND state=?"},
		"behind":                    {freeBehind, "delivery_behind (behind=? AND event=?)"},
		"outlived":                  {"SELECT key, event FROM outlived WHERE source = ? AND at <= ? ORDER BY at LIMIT ?", "outlived_at (source=? AND at<?)"},
		"of a destination":          {ofDestination, "PRIMARY KEY (destination=? AND event>? AND event<?)"},
		"packs":                     {packsFrom, "INTEGER PRIMARY KEY (rowid>?)"},
		"newest":                    {"SELECT " + eventColumns + newestFirst, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"oldest":                    {"SELECT " + eventColumns + oldestFirst, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"deliveries ahead":          {deliveriesIn, "PRIMARY KEY (destination=? AND event>? AND event<?)"},
		"packs ahead":               {packsIn, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"newest extents":            {newestExtents, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"oldest extents":            {oldestExtents, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"newest dead":               {newestDead, "delivery_dead (destination=? AND event>? AND event<?)"},
		"oldest dead":               {oldestDead, "delivery_dead (destination=? AND event>? AND event<?)"},
		"newest of a run":           {pagesBackward, "PRIMARY KEY (run=? AND kind=? AND low<?)"},
		"oldest of a run":           {pagesForward, "PRIMARY KEY (run=? AND kind=? AND low>? AND low<?)"},
		"dead letters":              {deadBefore, "COVERING INDEX delivery_dead (destination=? AND event<?)"},
		"dead letters shown":        {deadBetween, "delivery_dead (destination=? AND event>? AND event<?)"},
		"dead of a selection":       {deadOfSelection, "delivery_dead (destination=? AND event>? AND event<?)"},
		"dead after some":           {deadAfter, "COVERING INDEX delivery_dead (destination=? AND event>?)"},
		"due tasks":                 {dueTasks, "expected_due (source=? AND due<?)"},
		"first due task":            {firstDueTask, "expected_due (source=?)"},
		"newly overdue":             {newlyOverdue, "expected_overdue (source=? AND overdue>? AND overdue<?)"},
		"a task":                    {expectedOf, "expected_task (source=? AND task=?)"},
		"newest tasks":              {newestExpected, "INTEGER PRIMARY KEY (rowid<?)"},
		"tasks by name":             {namedExpected, "expected_task (source=? AND task=?)"},
		"ended tasks":               {endedTasks, "expected_ended (ended<?)"},
		"deletion":                  {deleteOf("attempt"), "PRIMARY KEY (event>? AND event<?)"},
		"of a destination, deleted": {deleteDeliveries, "PRIMARY KEY (destination=? AND event>? AND event<?)"},
	} {
		var plan []string
		st := s.db.Writer.Stmt("EXPLAIN QUERY PLAN " + tc.query)
		err := st.Each(func() { plan = append(plan, st.ColumnText(3)) })
		if all := strings.Join(plan, "; "); err != nil || !strings.Contains(all, tc.plan) || strings.Contains(all, "SCAN") || strings.Contains(all, "TEMP B-TREE") {
			t.Errorf("%s: plan %q, error %v; want %q", name, all, err, tc.plan)
		}
	}
}

func TestStates(t *testing.T) {
	for number, text := range map[int]string{ready: sqlReady, waiting: sqlWaiting, delivered: sqlDelivered, dead: sqlDead, blocked: sqlBlocked} {
		if strconv.Itoa(number) != text {
			t.Errorf("state %d is %s in statements", number, text)
		}
	}
}
