# A check wrapped by hand: no state, so every result is posted.
output=$("$@")
status=$?
echo "$output"
curl -s -o /dev/null -m 5 -H 'Content-Type: application/json' -d '{"message": "status"}' "$URL/v2/room/1/notification"
exit $status
