// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// handlerBar is what is asked for of one server, over all its loads but
// pipelined ones. Of samples claimed exactly none may be wrong, of inferred ones
// inferredBar, whatever the server.
type handlerBar struct {
	// coverage is the least share of the samples truly in a handler that are
	// claimed, and rightly so; 0 where concurrent requests cannot be told apart.
	coverage float64
	// counted says that requests can be seen on the sockets, or where a C library
	// encrypts them.
	counted bool
	// labelled says that the program says itself what it does, so that hardly anything
	// is left to be inferred.
	labelled bool
}

const (
	inferredBar = 0.01
	// countBar is how far the agent's count of requests may be from the truth.
	countBar = 0.001
)

// handlerServer is a program that serves the routes of rpc_load_test.go.
type handlerServer struct {
	name string
	// run is the command, and env what is added to its environment, with $DIR and
	// $PORT, and $FIRST and $SECOND: the ports of its upstream servers.
	run string
	env []string
	// config is a file that is copied to $DIR with all that replaced.
	config string
	// upstream are earlier servers of the list.
	upstream []string
	truth    truth
	protocol protocol
	// getOnly servers know no other method.
	getOnly bool
	// pipelines servers take a request before they have answered the last.
	pipelines bool
	bar       handlerBar
}

// Shell scripts that build servers, run in testdata/rpc.
const (
	buildGoHTTP = "go build -o $DIR/gohttp ./gohttp"
	buildGRPCGo = "go build -C grpcserver -o $DIR/grpcserver ."
	buildGnuTLS = "gcc -O2 -Wall -Wextra -Werror -o $DIR/gnutls gnutls.c -lgnutls"
)

var handlerBuilds = []string{
	buildGoHTTP,
	"ln $DIR/gohttp $DIR/golabels",
	buildGRPCGo,
	"javac -d $DIR Truth.java Pool.java Reactor.java",
	"gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o $DIR/nginx-truth.so nginx-truth.c",
	buildGnuTLS,
}

// handlerServerNamed is one of handlerServers.
func handlerServerNamed(name string) *handlerServer {
	servers := handlerServers()
	return &servers[slices.IndexFunc(servers, func(s handlerServer) bool { return s.name == name })]
}

// Servers that others lead to come first.
func handlerServers() []handlerServer {
	const (
		nginx = "nginx -p $DIR -e stderr -c $DIR/"
		pair  = " $DIR/cert.pem $DIR/key.pem"
	)
	return []handlerServer{
		{
			name: "go-http", run: "$DIR/gohttp 127.0.0.1:$PORT", truth: truthByFunction, protocol: http1, pipelines: true,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			name: "go-labels", run: "$DIR/golabels 127.0.0.1:$PORT", env: []string{"ROUTES=labels"}, truth: truthByFunction,
			protocol: http1, pipelines: true, bar: handlerBar{coverage: 0.99, counted: true, labelled: true},
		}, {
			name: "python-threads", run: "python3 threads.py $PORT", truth: truthByThread, protocol: http1, pipelines: true,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			name: "go-tls", run: "$DIR/gohttp 127.0.0.1:$PORT" + pair, truth: truthByFunction, protocol: tls1,
			bar: handlerBar{coverage: 0.99},
		}, {
			name: "go-h2", run: "$DIR/gohttp 127.0.0.1:$PORT" + pair, truth: truthByFunction, protocol: tls2,
			bar: handlerBar{coverage: 0.99},
		}, {
			name: "grpc-go", run: "$DIR/grpcserver 127.0.0.1:$PORT", truth: truthByFunction, protocol: grpc,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			name: "python-asyncio", run: "python3 loop.py $PORT", truth: truthByThread, protocol: http1, pipelines: true,
			bar: handlerBar{counted: true},
		}, {
			name: "java-pool", run: "java -Dsun.net.httpserver.nodelay=true -cp $DIR Pool $PORT", truth: truthByThread, protocol: http1,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			name: "java-reactor", run: "java -cp $DIR Reactor $PORT", truth: truthByThread, protocol: http1, pipelines: true,
			bar: handlerBar{coverage: 0.95, counted: true},
		}, {
			name: "node-sync", run: "node server.js $PORT sync", truth: truthByThread, protocol: http1, pipelines: true,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			name: "node-async", run: "node server.js $PORT async", truth: truthByThread, protocol: http1, pipelines: true,
			bar: handlerBar{counted: true},
		}, {
			name: "nginx-static", run: nginx + "nginx-static.conf", config: "nginx-static.conf", truth: truthByThread, protocol: http1,
			env: []string{"LD_PRELOAD=$DIR/nginx-truth.so", "TRUTH_ROOT=$DIR/docroot"}, getOnly: true, pipelines: true,
			bar: handlerBar{counted: true},
		}, {
			name: "nginx-proxy", run: nginx + "nginx-proxy.conf", config: "nginx-proxy.conf", truth: truthByThread, protocol: http1,
			env: []string{"LD_PRELOAD=$DIR/nginx-truth.so"}, upstream: []string{"go-http", "python-threads"},
			bar: handlerBar{counted: true},
		}, {
			name: "python-tls", run: "python3 threads.py $PORT" + pair, truth: truthByThread, protocol: tls1,
			bar: handlerBar{coverage: 0.99, counted: true},
		}, {
			// In the first second or two of a process its libraries are not yet probed.
			name: "node-tls", run: "node server.js $PORT sync" + pair, truth: truthByThread, protocol: tls1,
			bar: handlerBar{coverage: 0.93, counted: true},
		}, {
			name: "nginx-tls", run: nginx + "nginx-tls.conf", config: "nginx-tls.conf", truth: truthByThread, protocol: tls1,
			env: []string{"LD_PRELOAD=$DIR/nginx-truth.so", "TRUTH_ROOT=$DIR/docroot"}, getOnly: true,
			bar: handlerBar{counted: true},
		}, {
			name: "gnutls", run: "$DIR/gnutls $PORT" + pair, truth: truthByThread, protocol: tls1,
			bar: handlerBar{coverage: 0.99, counted: true},
		},
	}
}
