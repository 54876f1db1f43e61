# What the tables of measurements share: include "tables"; with -L scripts/lib.

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def fixed($digits): if . == null then "-" else
    (pow(10; $digits)) as $unit | (. * $unit | round) as $n | ($n / $unit | floor | tostring) as $whole |
    if $digits == 0 then $whole else $whole + "." + ("000" + ($n % $unit | tostring) | .[-$digits:]) end end;
# 1234567 as "1 235 000": three digits that mean something.
def thousands: if . == null then "-" else
    (. / 1000 | round) as $k | if $k >= 1000 then "\($k / 1000 | floor) \("00" + ($k % 1000 | tostring) | .[-3:]) 000" else "\($k) 000" end end;
