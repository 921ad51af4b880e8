import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.exceptions.AlreadyExistsException;
import org.apache.iceberg.exceptions.CommitFailedException;
import org.apache.iceberg.exceptions.CommitStateUnknownException;
import org.apache.iceberg.exceptions.NamespaceNotEmptyException;
import org.apache.iceberg.exceptions.NoSuchNamespaceException;
import org.apache.iceberg.exceptions.NoSuchTableException;
import org.apache.iceberg.exceptions.ValidationException;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.CatalogHandlers;
import org.apache.iceberg.rest.RESTCatalogProperties.SnapshotMode;
import org.apache.iceberg.rest.RESTSerializers;
import org.apache.iceberg.rest.requests.CreateNamespaceRequest;
import org.apache.iceberg.rest.requests.CreateTableRequest;
import org.apache.iceberg.rest.requests.UpdateTableRequest;
import org.apache.iceberg.rest.responses.ConfigResponse;
import org.apache.iceberg.rest.responses.ErrorResponse;
import org.apache.iceberg.shaded.com.fasterxml.jackson.annotation.JsonAutoDetect.Visibility;
import org.apache.iceberg.shaded.com.fasterxml.jackson.annotation.PropertyAccessor;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.DeserializationFeature;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.PropertyNamingStrategies;

/**
 * An Iceberg REST catalog for tests and rehearsals: the protocol's own handlers of Iceberg over its JDBC catalog.
 *
 * <p>Started with Java's source launcher: {@code java -cp JARS RestCatalog.java PORT key=value ...}, the pairs being the
 * JDBC catalog's properties. Listens on loopback only and asks for no login; it is no server for a deployment.
 */
public class RestCatalog {
  private static final Map<Class<? extends Exception>, Integer> STATUS =
      Map.of(
          AlreadyExistsException.class, 409,
          CommitFailedException.class, 409,
          NamespaceNotEmptyException.class, 409,
          NoSuchNamespaceException.class, 404,
          NoSuchTableException.class, 404,
          CommitStateUnknownException.class, 500,
          ValidationException.class, 400,
          IllegalArgumentException.class, 400);

  private final JdbcCatalog catalog = new JdbcCatalog();
  private final ObjectMapper json = new ObjectMapper();

  RestCatalog(Map<String, String> properties) {
    json.setVisibility(PropertyAccessor.FIELD, Visibility.ANY);
    json.setPropertyNamingStrategy(PropertyNamingStrategies.KEBAB_CASE);
    json.configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
    RESTSerializers.registerAll(json);
    catalog.initialize("lake", properties);
  }

  public static void main(String[] arguments) throws IOException {
    Map<String, String> properties = new HashMap<>(Map.of("jdbc.schema-version", "V1"));
    for (int i = 1; i < arguments.length; i++) {
      String[] pair = arguments[i].split("=", 2);
      properties.put(pair[0], pair[1]);
    }
    RestCatalog served = new RestCatalog(properties);
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
    server.createContext("/v1/", exchange -> served.answer(exchange, exchange.getRequestURI().getRawPath()));
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
    System.out.println("ready");
  }

  /** Answers a request whose path, without what a server has in front of it, is {@code /v1/...}. */
  void answer(HttpExchange exchange, String path) throws IOException {
    byte[] body = new byte[0];
    int status = 200;
    try {
      byte[] asked = exchange.getRequestBody().readAllBytes();
      Object found = route(exchange.getRequestMethod(), path.split("/"), asked);
      if (found == null) {
        status = 204;
      } else {
        body = json.writeValueAsBytes(found);
      }
    } catch (Exception error) {
      status = STATUS.entrySet().stream()
          .filter(entry -> entry.getKey().isInstance(error))
          .map(Map.Entry::getValue).findFirst().orElse(500);
      if (status == 500) {
        error.printStackTrace();
      }
      body = json.writeValueAsBytes(
          ErrorResponse.builder().responseCode(status).withType(error.getClass().getSimpleName())
              .withMessage(String.valueOf(error.getMessage())).build());
    }
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }

  /** What a request asks for; null where there is nothing to say. The path begins {@code "", "v1", ...}. */
  private Object route(String method, String[] path, byte[] asked) throws IOException {
    if (path[2].equals("config")) {
      return ConfigResponse.builder().build();
    }
    if (!path[2].equals("namespaces")) {
      throw new IllegalArgumentException("not served: " + String.join("/", path));
    }
    if (path.length == 3) {
      return method.equals("POST")
          ? CatalogHandlers.createNamespace(catalog, json.readValue(asked, CreateNamespaceRequest.class))
          : CatalogHandlers.listNamespaces(catalog, Namespace.empty());
    }
    Namespace namespace = Namespace.of(decoded(path[3]).split("\u001f"));
    if (path.length == 4) {
      return switch (method) {
        case "GET" -> CatalogHandlers.loadNamespace(catalog, namespace);
        case "HEAD" -> nothing(() -> CatalogHandlers.namespaceExists(catalog, namespace));
        case "DELETE" -> nothing(() -> CatalogHandlers.dropNamespace(catalog, namespace));
        default -> throw new IllegalArgumentException("not served: " + method);
      };
    }
    if (path.length == 5) {
      if (!method.equals("POST")) {
        return CatalogHandlers.listTables(catalog, namespace);
      }
      CreateTableRequest request = json.readValue(asked, CreateTableRequest.class);
      request.validate();
      return request.stageCreate()
          ? CatalogHandlers.stageTableCreate(catalog, namespace, request)
          : CatalogHandlers.createTable(catalog, namespace, request);
    }
    TableIdentifier table = TableIdentifier.of(namespace, decoded(path[5]));
    return switch (method) {
      case "GET" -> CatalogHandlers.loadTable(catalog, table, SnapshotMode.ALL);
      case "POST" -> CatalogHandlers.updateTable(catalog, table, json.readValue(asked, UpdateTableRequest.class));
      case "HEAD" -> nothing(() -> CatalogHandlers.tableExists(catalog, table));
      case "DELETE" -> nothing(() -> CatalogHandlers.dropTable(catalog, table));
      default -> throw new IllegalArgumentException("not served: " + method);
    };
  }

  private static Object nothing(Runnable action) {
    action.run();
    return null;
  }

  private static String decoded(String part) {
    return URLDecoder.decode(part, StandardCharsets.UTF_8);
  }
}
