#!/bin/sh
# /usr/lib/cgi-bin/flipbell-mackerel.cgi, mode 755: takes the body of a webhook,
# for any web server with CGI.
# 204 once all is recorded; else 500, which has the sender try again.
if head -c "${CONTENT_LENGTH:-0}" | /usr/local/bin/flipbell report --from mackerel-webhook 2>/dev/null; then
    printf 'Status: 204 No Content\r\n\r\n'
else
    printf 'Status: 500 Not recorded\r\n\r\n'
fi
