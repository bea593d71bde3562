// SPDX-License-Identifier: Apache-2.0

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** A pool of threads, each of which reads a request and answers it: Pool PORT. */
final class Pool {
    public static void main(String[] args) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 128);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", Pool::handle);
        Truth.startBackground();
        server.start();
    }

    private static void handle(HttpExchange exchange) throws IOException {
        exchange.getRequestBody().readAllBytes();
        String letter = Truth.route(exchange.getRequestMethod(), exchange.getRequestURI().getPath());
        if (letter == null) {
            exchange.sendResponseHeaders(404, -1);
            exchange.close();
            return;
        }
        Truth.serve(letter);
        exchange.sendResponseHeaders(200, 1);
        exchange.getResponseBody().write(letter.getBytes());
        exchange.close();
        Thread.currentThread().setName("backgrnd"); // the answer is written
        Truth.burn(1);
        Thread.currentThread().setName("idle");
    }
}
