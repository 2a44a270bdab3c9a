// Package scenarios holds the end-to-end tests: stories about users, members and hubs, told as txtar scripts that run
// against real API servers in a lab of their own (package lab), with hansa, kubefedctl and kubectl as real programs and
// `hansa hub` as a process built with the race detector.
//
// The scripts in testdata/parallel keep to namespaces of their own and run side by side. Those in testdata/serial stop
// hubs, kill members or join clusters; they run one after the other, and what they disturbed is mended behind them.
//
// Beside the commands of testscript, scripts have:
//
//	hansa ARGS..., kubefedctl ARGS..., kubectl ARGS...
//	                              the programs; the current context is hub
//	host ARGS..., m1 ARGS..., m2 ARGS...
//	                              kubectl in the context of the host cluster or of a member, in namespace $NS
//	federate-namespace            make the namespace $NS in the host cluster and federate it to all members
//	eventually [-t DURATION] COMMAND... [-- PATTERN]
//	                              repeat a command until it succeeds and its output fits the pattern (30 s by default)
//	within DURATION COMMAND... -- PATTERN
//	                              the same where the time is a part of the story
//	hub start|stop|kill|log [-t DURATION] [NAME] [FLAGS...]
//	                              the hub program; NAME tells several apart. start waits until it is ready (60 s by default)
//	cluster kill|start|pause|resume TARGET
//	                              a cluster of the lab, or one of its components
//	audit mark NAME               remember this moment
//	audit count NAME CLUSTER [by=PROGRAM] [verb=V] [resource=R] [subresource=S] [namespace=N] [name=N] -eq|-le|-ge COUNT
//	                              count the successful writes to a cluster since then; by=hansa-hub are the hub's
//
// $NS is a name that only this script uses; it is replaced in the files of a script, too. $SYSTEM is the hub's namespace.
// $STATUS is a jsonpath of the propagation of a federated object, as in "True  m1= m2=" or
// "False CheckClusters m1= m2=UpdateFailed". $GATEWAY_API is a folder with the definitions of the Gateway API.
package scenarios
