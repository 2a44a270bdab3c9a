// Package gateway carries TLS connections from elsewhere to endpoints of its own cluster. It reads the name of the server
// in the ClientHello, which is not encrypted, and passes everything on as it came: TLS ends at the endpoint, so a gateway
// sees neither who the client is nor what it says. A service is therefore reached only if it was opened for that, and by
// the sources it was opened for.
//
//	accept ─► ClientHello (hello) ─► Router ─► an endpoint takes the connection ─► both ways (relay)
//	   │            │                  │            │ no: the next endpoint, a few times
//	   ▼            ▼                  ▼            ▼
//	 closed     TLS alert          TLS alert    TLS alert            at once: nobody waits for nothing
//
// A few goroutines serve all connections (poll). Nothing grows with what strangers send: connections are limited in all
// and per source, every wait has an end, and a connection at rest costs two descriptors and less than a kilobyte.
package gateway
