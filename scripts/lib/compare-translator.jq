# Makes the table of docs/performance.md from what scripts/compare-translator has measured: medians over the rounds, ratios pair by pair.
include "tables";

. as $all
# The numbers of one translator under one name, one for each round.
| def numbers($name; $translator; f): [$all.runs[] | select(.name == $name and .translator == $translator) | f];
  # How many times less this translator takes, in rounds that have both.
  def times($name; f): [range(1; 100) as $round
      | [$all.runs[] | select(.name == $name and .round == $round)] as $pair
      | ($pair[] | select(.translator == "adit") | f) as $ours | ($pair[] | select(.translator == "sri") | f) as $theirs
      | select($ours != null and $theirs != null and $ours > 0) | $theirs / $ours] | median;
  def shown($name; $translator; f; $unit; $digits): numbers($name; $translator; f) | median | if . then . / $unit else null end | fixed($digits);
  def row($title; $name; f; $unit; $digits):
      "| \($title) | \(shown($name; "adit"; f; $unit; $digits)) | \(shown($name; "sri"; f; $unit; $digits)) | \(times($name; f) | fixed(1)) |";
  def news($name; $whom):
      row("new job to the first of \($whom), ms"; $name; .jobs.first_micros.p50; 1000; 2),
      row("new job to the median, ms"; $name; .jobs.median_micros.p50; 1000; 2),
      row("new job to the last, ms"; $name; .jobs.last_micros.p50; 1000; 2),
      row("new tip to the first, ms"; $name; .tips.first_micros.p50; 1000; 2),
      row("new tip to the median, ms"; $name; .tips.median_micros.p50; 1000; 2),
      row("new tip to the last, ms"; $name; .tips.last_micros.p50; 1000; 2),
      row("CPU of a job for each machine, us"; $name; .jobs.cpu_ns_each; 1000; 1);
  def rows($name; $whom):
      news($name; $whom),
      row("CPU of a share, us"; $name; .shares.cpu_ns_each; 1000; 1),
      row("answer to a share, p50, ms"; $name; .shares.answer_micros.p50; 1000; 2),
      row("answer to a share, p99, ms"; $name; .shares.answer_micros.p99; 1000; 2),
      row("memory of an idle machine, KiB"; $name; .memory.idle_each; 1024; 1),
      row("all connect and have work, ms"; $name; .storm.micros; 1000; 0),
      row("CPU of connecting, for each machine, us"; $name; .storm.cpu_ns_each; 1000; 0);
  ([$all.runs[].name | select(startswith("aggregated-")) | ltrimstr("aggregated-") | tonumber] | unique) as $crowds
| ([$all.runs[].name | select(startswith("full-")) | ltrimstr("full-") | tonumber] | unique) as $full
| ([$all.runs[] | select(.clean | not)] | length) as $spoiled

| "| | adit | `translator_sv2` | times less |",
  "|---|--:|--:|--:|",
  ($crowds[] as $crowd | rows("aggregated-\($crowd)"; "\($crowd) machines")),
  row("CPU of a share of 1000 machines, one in 100 for the pool, us"; "filtered-1000"; .shares.cpu_ns_each; 1000; 1),
  row("CPU of a share of 1000 machines that send 20 000 a second, us"; "busy-1000"; .shares.cpu_ns_each; 1000; 1),
  ($full[] as $machines | rows("full-\($machines)"; "\($machines) machines that send \($machines / 3 | floor) a second")),
  rows("per-machine-1000"; "1000 machines with a channel each"),
  news("late-1000"; "1000 machines that acknowledge late"),
  news("late-per-machine-1000"; "1000 machines with a channel each that acknowledge late"),
  "",
  "\($all.subjects.cpu), Linux \($all.subjects.kernel), \($all.subjects.date); \($all.subjects.adit) and \($all.subjects.sri). Medians of \([$all.runs[].round] | max) rounds, of jobs and tips also over those of a round; the last column is the median of the ratios pair by pair."
  + (if $spoiled > 0 then " \($spoiled) of \($all.runs | length) measurements were not clean: do not quote them." else "" end)
  + (if $all.subjects.failed_runs > 0 then " \($all.subjects.failed_runs) measurements failed." else "" end)
