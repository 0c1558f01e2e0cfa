#!/bin/sh
# /usr/lib/cgi-bin/flipbell.cgi, mode 755, for any web server with CGI: takes a webhook's body.
# 204 once all is recorded; else 500, which has the sender try again.
if head -c "${CONTENT_LENGTH:-0}" | /usr/local/bin/flipbell report --from mackerel-webhook 2>/dev/null; then
    printf 'Status: 204 No Content\r\n\r\n'
else
    printf 'Status: 500 Not recorded\r\n\r\n'
fi
