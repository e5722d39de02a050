// Package alert turns conditions of a gateway into events of the built-in source `relay`.
//
//	observed conditions ─▶ machine ─▶ due alerts ─▶ the door, like any callback ─▶ store or spool ─▶ destinations
//
// The machine decides by what this node sees. What other nodes have sent is decided by the store: alerts of one condition,
// source and destination share a dedupe key whose window is `every`, so that the first node's alert is the only one, by the
// store's clock (4).
//
//	             holds                       stored, or a duplicate of another node's
//	[nothing] ─────────▶ due ──────────────────────▶ open ──▶ due again after `every`, while it holds
//	                      │ cannot be stored          │ ends
//	                      └─▶ tried again, also       └─▶ resolved, unless another node has sent something since
//	                          after it has ended
package alert
