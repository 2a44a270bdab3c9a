// Package traffic holds the end-to-end tests of labs with traffic: stories told as txtar scripts in which Pods are
// processes, requests cross real networks, and links have length. What is claimed of a network is shown by requests that
// are answered, or that are not.
//
// The scripts in testdata/shared use one lab of two members, side by side, each in a namespace of its own. Those in
// testdata/alone make labs themselves and run one after the other. Those in testdata/global-* run in labs with a hub that
// the members have joined: in one that is flat, and in one whose clusters have networks of their own. They run one after the
// other, but for those in testdata/global-flat-together, which leave hubs and clusters alone. The members of these labs have
// DNS servers for global names, which their CoreDNS asks. Those in testdata/gateways run in the lab of package failover: with
// an agent in each member, and the service web in namespace shop of all of them.
//
// Beside the commands of testscript, scripts have:
//
//	lab ARGS...                  hansa-lab with the lab of the script ($LAB)
//	hub ARGS..., m1 ARGS..., m2 ARGS..., m3 ARGS...
//	                             kubectl in the context of a cluster, in namespace $NS
//	eventually [-t DURATION] [!] COMMAND... [-- PATTERN]
//	                             repeat a command until it succeeds and its output fits the pattern (30 s by default)
//	within DURATION [!] COMMAND... -- PATTERN
//	                             the same where the time is a part of the story
//	traces NAME                  note what the machine has of mounts, cgroups, devices and addresses; and, while the lab
//	                             is up, its processes and the namespaces that they are in
//	! traces NAME                wait until the machine has what it had, and nothing lives of the lab
//	stray PATTERN                kill -9 the processes of the lab $LAB whose command line fits, as an accident would
//	lab-pod kill|pause|resume CLUSTER APP
//	                             do that to the first Pod with the label app=APP
//	quickest DURATION CLUSTER APP
//	                             kill the Pods of a Service one by one; the quickest leaves it within that time
//	occupy CLUSTER               take the port of the cluster's API server, until the script ends
//	from-to CLUSTER CLUSTER POD  ask a Pod of the second cluster, by its address, from the Pod of that name in the first
//	hansa ARGS...                hansa with the host cluster of the lab
//	hub-program NUMBER           start a further hub program, or hub-0 again
//	ask [-service NAME] [-port NUMBER] [-query PARAMETERS] [-header NAME:VALUE]... [-rate N] [-duration DURATION] CLUSTER
//	                             send requests from a gRPC client in a cluster to a global service in $NS, by default 80 a
//	                             second to echo:9090 for half a second; its output is the report of the load client
//	answers [FLAGS OF ask] CLUSTER BY...
//	                             do that until every request is answered, by all the clusters that are named and by no other
//	share [FLAGS OF ask] CLUSTER BY LEAST MOST
//	                             send 1000 requests, once; none may fail, and BY answers LEAST to MOST percent of them
//	load CLUSTER...              have clients in each of the clusters send 50 requests a second to echo, until unload
//	loaded CLUSTER BY...         wait until all the clusters BY and no other answer a quarter of a second of a load
//	moves [-within DURATION] CLUSTER BY... -- COMMAND...
//	                             do what moves a load to the clusters BY. The time (2 s) is what may pass from when the change
//	                             is to be seen in an API server until a new one of them answers, and until the last answer
//	                             of any other; what did pass is logged
//	failing CLUSTER ERROR        wait until all requests of a load end with that error, at once: grpc-Unavailable for example
//	verdicts FROM CLUSTER:VERDICT,VERDICT,...
//	                             wait until explain says this and no more of the endpoints of echo, seen from a cluster: a
//	                             verdict is a priority, or the reason why an endpoint is not used
//	unload CLUSTER BY...         end a load; none of its requests may have failed, and all the named clusters have answered
//	dig CLUSTER ARGS..., kdig CLUSTER ARGS...
//	                             ask the DNS server of a member for global names directly, from a node of the member
//	agree CLUSTER NAME TYPE [NAME TYPE]...
//	                             ask with both; they have to find the same records, and some
//	outage                       kill the API servers of all clusters, after hub-0
//	! outage                     start them again, and hub-0, which the end of a script does too
//	dns-program CLUSTER          start the DNS server of a member again
//	dns-restarts [-within DURATION] CLUSTER PATTERN
//	                             kill it and start it again. The first answer of look that comes then has to fit, within that
//	                             time (200 ms), at best in twelve attempts; what they took is logged
//	signed-dns-program CLUSTER   start a second one, on the next port, that signs what it says
//	look CLUSTER SERVICE         have a program in a member look a service of $NS up all the time, there, until the script ends
//	looked CLUSTER PATTERN       wait until what it finds fits: the code, the sorted addresses, and "stale" if so (EDE 3)
//	swings [-within DURATION] CLUSTER PATTERN PATTERN -- COMMAND... -- COMMAND...
//	                             do what turns the answer into another one, and what turns it back. The time (100 ms) is what
//	                             may pass from when a change is to be seen in an API server until the answer, at best in
//	                             twelve attempts; what did pass is logged
//	tell CLUSTER APP CONTROL     tell the first Pod with the label app=APP how to behave, as the test server's /control takes it
//	hub-side ARGS...             hansa where the hub programs can be reached
//	metrics CLUSTER              the metrics of a member's gateway
//	calling DURATION COMMAND...  run a command while the client of package failover calls, m1 has no Pods, and m2 serves. The
//	                             calls go on for that time after the command has begun; none may fail. The output is their
//	                             table, and that of the command
//	fault NAME                   have something die in that way, as package failover names it, and mend it. None of the calls
//	                             that begin after it may fail; the output is the table
//	strike NAME, mend NAME       do the one part, or the other, and no more
//	certificate FILE NAME...     make $WORK/FILE.crt and FILE.key, good for the names or the SPIFFE ID, signed by itself
//	half-close CLUSTER HOST:PORT say lines to a TCP server, then that there are no more, and print what it says until its end
//	unprivileged COMMAND...      run a command as a user without rights, with a home of his own
//	json PATH PATTERN            a value in the last JSON document or line of the last output fits
//
// They need root or user namespaces, and dig, kdig and delv, and fail without; LAB_TRAFFIC=off leaves them out.
package traffic
