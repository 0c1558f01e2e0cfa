# /etc/consul.d/flipbell.hcl, for Consul. Use one of the two ways for a check, not both.

# 1. Wrapped: flipbell runs the plugin on each node, and sees every result.
check {
  id       = "disk"
  name     = "disk"
  args     = ["/usr/local/bin/flipbell", "run", "--check", "disk", "--", "/usr/lib/nagios/plugins/check_disk", "-w", "20%", "-c", "10%", "-p", "/"]
  interval = "60s"
  timeout  = "30s"
}

# 2. Watched: one agent tells the changes of all checks of the data center. What leaves the list
#    is no longer checked, by a state directory that holds nothing else:
#        install -d -o consul -m 700 /var/lib/flipbell-consul
watches = [
  {
    type         = "checks"
    handler_type = "script"
    args         = ["/usr/local/bin/flipbell", "report", "--from", "consul", "--complete", "--state", "/var/lib/flipbell-consul"]
  }
]
