// Package enrolment is how agents of clusters get certificates, and keep them.
//
// A Server gives a first certificate to who proves to be in a cluster by one of two things: a join token, which an admin
// made for that cluster and which is good once; or the token of the agent's ServiceAccount, which the cluster's own API
// server vouches for. It renews a certificate for who shows it: the identity stays what it was. Keys never travel: a
// request holds a public key, and proves that the private one is there.
//
// An Agent is the other side. It keeps its key and its certificate in a directory, renews the certificate every day, and
// is an identity.Source for whatever connects. It never trusts a hub because it answered first: the roots come with the
// token, as a file.
//
// No token and no key is ever logged.
package enrolment
