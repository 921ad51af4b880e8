import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.JsonNode;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * Stands in Polaris's place in {@code make stack-check}, where no image of Polaris can be had.
 *
 * <p>What docker-compose.yaml and provisioning ask of Polaris: a login, catalogs made through the management API and
 * reached by their name, records in Postgres, and a health page. The Iceberg protocol itself is {@link RestCatalog}'s.
 */
public class Polaris {
  private static final ObjectMapper JSON = new ObjectMapper();

  private final Map<String, String> environment = System.getenv();
  private final Map<String, RestCatalog> opened = new ConcurrentHashMap<>();
  private final String token = UUID.randomUUID().toString(); // as with Polaris, a restart ends every login

  public static void main(String[] arguments) throws Exception {
    Polaris polaris = new Polaris();
    if (polaris.rows("select 1 from information_schema.tables where table_schema = 'polaris_schema'").isEmpty()) {
      throw new IllegalStateException("the realm is not bootstrapped");
    }
    serve(8182, "/q/health/ready", exchange -> send(exchange, 200, "{\"status\": \"UP\"}"));
    serve(8181, "/api/", polaris::answer);
    System.out.println("ready");
  }

  private static void serve(int port, String path, com.sun.net.httpserver.HttpHandler handler) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
    server.createContext(path, handler);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
  }

  private void answer(HttpExchange exchange) throws IOException {
    try {
      route(exchange, exchange.getRequestURI().getRawPath());
    } catch (SQLException error) {
      send(exchange, 503, refusal("ServiceUnavailableException", error.getMessage(), 503));
    }
  }

  private void route(HttpExchange exchange, String path) throws IOException, SQLException {
    if (path.equals("/api/catalog/v1/oauth/tokens")) {
      login(exchange);
    } else if (!("Bearer " + token).equals(exchange.getRequestHeaders().getFirst("Authorization"))) {
      send(exchange, 401, refusal("NotAuthorizedException", "not logged in", 401));
    } else if (path.equals("/api/management/v1/catalogs")) {
      make(exchange);
    } else if (path.equals("/api/catalog/v1/config")) {
      String name = fields(exchange.getRequestURI().getRawQuery()).getOrDefault("warehouse", "");
      send(exchange, 200, "{\"defaults\": {}, \"overrides\": {\"prefix\": " + JSON.writeValueAsString(name) + "}}");
    } else { // /api/catalog/v1/<catalog>/namespaces...
      String[] parts = path.split("/", 6);
      RestCatalog catalog = parts.length == 6 ? catalog(parts[4]) : null;
      if (catalog == null) {
        send(exchange, 404, refusal("NotFoundException", "no such catalog", 404));
      } else {
        catalog.answer(exchange, "/v1/" + parts[5]);
      }
    }
  }

  private void login(HttpExchange exchange) throws IOException, SQLException {
    Map<String, String> asked = fields(new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
    List<String> known =
        rows("select secret from polaris_schema.entities where name = ?", asked.getOrDefault("client_id", ""));
    if (known.contains(asked.get("client_secret"))) {
      send(exchange, 200, "{\"access_token\": \"" + token + "\", \"token_type\": \"bearer\", \"expires_in\": 3600}");
    } else {
      send(exchange, 401, "{\"error\": \"unauthorized_client\"}");
    }
  }

  private void make(HttpExchange exchange) throws IOException, SQLException {
    JsonNode asked = JSON.readTree(exchange.getRequestBody()).get("catalog");
    String name = asked.get("name").asText();
    if (!rows("select name from polaris_schema.catalogs where name = ?", name).isEmpty()) {
      send(exchange, 409, refusal("AlreadyExistsException", "the catalog exists", 409));
      return;
    }
    JsonNode storage = asked.get("storageConfigInfo");
    rows(
        "insert into polaris_schema.catalogs values (?, ?, ?, ?) returning name",
        name,
        asked.get("properties").get("default-base-location").asText(),
        storage.get("endpoint").asText(),
        storage.get("region").asText());
    send(exchange, 201, JSON.writeValueAsString(asked));
  }

  private RestCatalog catalog(String name) throws SQLException {
    if (!opened.containsKey(name)) {
      List<String> made =
          rows("select location || ' ' || endpoint || ' ' || region from polaris_schema.catalogs where name = ?", name);
      if (made.isEmpty()) {
        return null;
      }
      String[] storage = made.get(0).split(" ");
      opened.computeIfAbsent(name, ignored -> new RestCatalog(new HashMap<>(Map.of(
          "uri", environment.get("QUARKUS_DATASOURCE_JDBC_URL"),
          "jdbc.user", environment.get("QUARKUS_DATASOURCE_USERNAME"),
          "jdbc.password", environment.get("QUARKUS_DATASOURCE_PASSWORD"),
          "jdbc.schema-version", "V1",
          "warehouse", storage[0],
          "io-impl", "org.apache.iceberg.aws.s3.S3FileIO",
          "s3.endpoint", storage[1],
          "s3.path-style-access", "true",
          "client.region", storage[2]))));
    }
    return opened.get(name);
  }

  /** The first column of what a statement returns. */
  private List<String> rows(String statement, String... values) throws SQLException {
    List<String> found = new ArrayList<>();
    try (Connection connection = DriverManager.getConnection(
            environment.get("QUARKUS_DATASOURCE_JDBC_URL"),
            environment.get("QUARKUS_DATASOURCE_USERNAME"),
            environment.get("QUARKUS_DATASOURCE_PASSWORD"));
        PreparedStatement prepared = connection.prepareStatement(statement)) {
      for (int i = 0; i < values.length; i++) {
        prepared.setString(i + 1, values[i]);
      }
      try (ResultSet result = prepared.executeQuery()) {
        while (result.next()) {
          found.add(result.getString(1));
        }
      }
    }
    return found;
  }

  private static Map<String, String> fields(String form) {
    Map<String, String> found = new HashMap<>();
    for (String pair : form == null ? new String[0] : form.split("&")) {
      String[] both = pair.split("=", 2);
      found.put(both[0], both.length == 2 ? URLDecoder.decode(both[1], StandardCharsets.UTF_8) : "");
    }
    return found;
  }

  private static String refusal(String type, String message, int code) throws IOException {
    return JSON.writeValueAsString(Map.of("error", Map.of("type", type, "message", message, "code", code)));
  }

  private static void send(HttpExchange exchange, int status, String body) throws IOException {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(status, bytes.length);
    exchange.getResponseBody().write(bytes);
    exchange.close();
  }
}
