# Makes the tables of docs/performance.md from what scripts/compare has measured: medians over the rounds, ratios pair by pair.

include "tables";

. as $all
# The numbers of one pool under one name, one for each round.
| def numbers($name; $pool; f): [$all.runs[] | select(.name == $name and .pool == $pool) | f];
  # How many times less this pool takes, in rounds that have both.
  def times($name; f): [range(1; 10) as $round
      | [$all.runs[] | select(.name == $name and .round == $round)] as $pair
      | ($pair[] | select(.pool == "adit") | f) as $ours | ($pair[] | select(.pool == "sri") | f) as $theirs
      | select($ours != null and $theirs != null and $ours > 0) | $theirs / $ours] | median;
  def of($name; $pool; f): numbers($name; $pool; f) | median;
  def row($title; $name; f; $unit; $digits):
      "| \($title) | \(of($name; "adit"; f) | if . then . / $unit else null end | fixed($digits)) | \(of($name; "sri"; f) | if . then . / $unit else null end | fixed($digits)) | \(times($name; f) | fixed(1)) |";
  def saturated($title; $name):
      "| \($title) | \(of($name; "adit"; .shares.server_cpu_ns_each) | if . then . / 1000 else null end | fixed(2)) us | \(of($name; "adit"; .shares.accepted_per_second) | thousands) | \(of($name; "sri"; .shares.server_cpu_ns_each) | if . then . / 1000 else null end | fixed(2)) us | \(of($name; "sri"; .shares.accepted_per_second) | thousands) | \(times($name; .shares.server_cpu_ns_each) | fixed(1)) |";
  ([$all.runs[].name | select(startswith("tips-")) | ltrimstr("tips-") | tonumber] | unique) as $crowds
| ($crowds | max) as $many
| ([$all.runs[] | select(.name | startswith("generations-"))] | .[0].name) as $generations
| ([$all.runs[] | select(.clean | not)] | length) as $spoiled

| "Shares as fast as they are taken, the pool on one processor.",
  "",
  "| shares | adit, CPU each | a second | `pool_sv2`, CPU each | a second | times less CPU |",
  "|---|--:|--:|--:|--:|--:|",
  (["extended", "standard"][] as $kind
   | saturated("\($kind), 1 connection"; "saturated-\($kind)-1x1"),
     saturated("\($kind), 10 connections"; "saturated-\($kind)-10x1"),
     saturated("\($kind), 100 connections"; "saturated-\($kind)-100x1"),
     saturated("\($kind), 100 channels on one connection"; "saturated-\($kind)-1x100")),
  "",
  "Everything else.",
  "",
  "| | adit | `pool_sv2` | times less |",
  "|---|--:|--:|--:|",
  row("CPU of a share at 2 000 a second from 100 connections, us"; "paced-100"; .shares.server_cpu_ns_each; 1000; 0),
  row("CPU of a handshake, us"; "tips-\($many)"; .handshakes.server_cpu_ns_each; 1000; 0),
  row("CPU of a handshake, a setup and a channel with its first job, us"; "tips-\($many)"; .opening.server_cpu_ns_each; 1000; 0),
  row("memory of a connection before its setup, KiB"; "tips-\($many)"; .memory.stranger_each; 1024; 1),
  row("memory of an idle connection with one channel, KiB"; "tips-\($many)"; .memory.idle_each; 1024; 1),
  row("the same, of the first generation of \($many), KiB"; $generations; (.memory | (.generations[0] - .before)) / .asked.connections; 1024; 1),
  row("the same, of generation \($all.runs[] | select(.name == $generations and .pool == "adit") | .memory.generations | length), KiB"; $generations; (.memory | (.generations[-1] - .before)) / .asked.connections; 1024; 1),
  ($crowds[] as $crowd
   | row("new tip to the first of \($crowd) connections, ms"; "tips-\($crowd)"; .tip_summary.first_micros.p50; 1000; 2),
     row("new tip to the last of \($crowd) connections, ms"; "tips-\($crowd)"; .tip_summary.last_micros.p50; 1000; 1),
     row("the same where they acknowledge late, ms"; "late-\($crowd)"; .tip_summary.last_micros.p50; 1000; 1)),
  row("block handed to Knots, to the first of 1000 connections, ms"; "node-1000"; .tip_summary.first_micros.p50; 1000; 2),
  row("block handed to Knots, to the last of 1000 connections, ms"; "node-1000"; .tip_summary.last_micros.p50; 1000; 1),
  "",
  ($all.runs[] | select(.name == "crowd") | .shares.ack_micros as $ack
   | "This pool alone, with all processors: \(.asked.connections) connections that send \(.asked.rate) shares a second, with a new tip in between, are acknowledged after "
     + "\($ack.p50 / 1000 | fixed(1)) ms at the median, \($ack.p90 / 1000 | fixed(1)) at p90, \($ack.p99 / 1000 | fixed(1)) at p99 and \($ack.max / 1000 | fixed(1)) at the most, "
     + "for \(.shares.server_cpu_ns_each / 1000 | fixed(0)) us of CPU each; the tip reached the last after \(.tip_summary.last_micros.max / 1000 | fixed(0)) ms. "
     + "A connection takes \(.memory.idle_each / 1024 | fixed(1)) KiB, and \(.memory.stranger_each / 1024 | fixed(1)) KiB before its setup."),
  "",
  ($all.runs[] | select(.name == "visited") | .tip_summary as $tips
   | "\($tips.tips) new tips with \(.asked.connections) idle connections, while \(.asked.reconnects) others a second come, open a channel and leave: everybody was told of "
     + "\($tips.told_everybody) of them, the first after \($tips.first_micros.p50 / 1000 | fixed(2)) ms (p99 \($tips.first_micros.p99 / 1000 | fixed(1))), "
     + "the last after \($tips.last_micros.p50 / 1000 | fixed(0)) ms (p99 \($tips.last_micros.p99 / 1000 | fixed(0))). "
     + "\(.visits.served) of \(.visits.set_out) visitors had work, after \(.visits.work_micros.p50 / 1000 | fixed(1)) ms (p99 \(.visits.work_micros.p99 / 1000 | fixed(0))), "
     + "and \([.lost[]] | add // 0) connections were lost."),
  "",
  "Acknowledgements of 2 000 shares a second from 100 connections to this pool, in quiet times and beside attackers with another address, by turns.",
  "",
  "| flood | what one address does | p99 in quiet times, ms | p99 beside it, ms | times | honest connections lost |",
  "|---|---|--:|--:|--:|--:|",
  (["handshakes", "handshakes, then garbage: at most 1 000 a second"],
   ["slow-handshakes", "400 handshakes at a time, a byte each 250 ms"],
   ["length-claims", "announces 2 000 bytes and 16 MiB before setup, 160 times a second"],
   ["unread", "at most 20 000 worthless shares a second, answers never read"],
   ["worthless-shares", "at most 20 000 shares a second on no job"],
   ["repeated-shares", "the same share, at most 20 000 times a second"],
   ["channel-requests", "asks for at most 8 000 channels a second"],
   ["channel-turnover", "opens and closes at most 4 000 channels a second"]
   | . as [$kind, $what]
   | ($all.runs[] | select(.name == "flood-\($kind)")) as $run
   | $run.flood
   | "| \($kind) | \($what) | \(.quiet_p99_micros / 1000 | fixed(1)) | \(.beside_p99_micros / 1000 | fixed(1)) | \(.beside_p99_micros / .quiet_p99_micros | fixed(2)) | \([$run.lost[]] | add // 0) |"),
  "",
  "\($all.subjects.cpu), Linux \($all.subjects.kernel), \($all.subjects.date); \($all.subjects.adit) and \($all.subjects.sri). Medians of \([$all.runs[].round] | max) rounds, of tips also over the tips of a round; the last column is the median of the ratios pair by pair."
  + (if $spoiled > 0 then " \($spoiled) of \($all.runs | length) measurements were not clean: do not quote them." else "" end)
  + (if $all.subjects.failed_runs > 0 then " \($all.subjects.failed_runs) measurements failed." else "" end)
