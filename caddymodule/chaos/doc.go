// Package chaos harms running gateways from outside, and proves that nothing which they answered for is lost.
//
// A run starts gateways, a Redis where they share one, senders, consumers and an operator, all of its own. Faults follow each
// other, alone and together, as a seed decides. A ledger keeps every callback that was answered by 200, every request that
// a consumer got, and every fault. In the end all is mended, everything drains, and the verdict compares the ledger with
// what the gateways list:
//
//	lost       an answered callback was not delivered everywhere, or is not in the store
//	split      one callback became several events
//	altered    a consumer got a body that was not sent
//	repeated   a request repeats an earlier one, and no fault explains it
//	overlaps   two attempts of one delivery ran at the same time, while nobody set the clock by which leases end
//	disorder   a callback of a task arrived before an earlier one was delivered, where `order task` is set
//	paused     a callback came while its destination was paused
//	refused    a sender or an operator was refused, and no fault explains it
//	forgotten  a delivery is left over, or a replay that was confirmed was not made
//	late       an answer came after `ack_within`
//	leaked     memory, goroutines or descriptors did not return to where they were
//	ended      a gateway ended by itself, or reported a panic
//
// All faults are real: signals, a disk that is full, system calls that strace has fail or wait, and clocks of single processes,
// whose code that reads the clock is replaced in their memory. Redis's clock is set by a minute at most, by which deliveries are
// late then; by more, the end of a run would have to be waited for as long.
package chaos
